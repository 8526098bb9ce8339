# SPDX-License-Identifier: Apache-2.0
target_sources(slalom_trusted PRIVATE base/arena.cc base/thread_pool.cc)
