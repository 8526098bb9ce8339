# SPDX-License-Identifier: Apache-2.0
target_sources(slalom_trusted PRIVATE session/control.cc session/server.cc session/service.cc)
