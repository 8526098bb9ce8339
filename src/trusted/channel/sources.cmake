# SPDX-License-Identifier: Apache-2.0
target_sources(slalom_trusted PRIVATE outside.cc channel/shm_port.cc)
