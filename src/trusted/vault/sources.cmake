# SPDX-License-Identifier: Apache-2.0
target_sources(slalom_trusted PRIVATE vault/sealer.cc vault/stocked_pads.cc vault/store.cc)
