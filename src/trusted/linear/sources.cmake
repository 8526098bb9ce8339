# SPDX-License-Identifier: Apache-2.0
target_sources(slalom_trusted PRIVATE linear/engine.cc linear/portable.cc)
