# SPDX-License-Identifier: Apache-2.0
# The back half of the importer: quantiser, plans, report, zoo.
target_link_libraries(slalom_importer PRIVATE slalom_flags PUBLIC slalom::reference slalom::trusted)
