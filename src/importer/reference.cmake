# SPDX-License-Identifier: Apache-2.0
# The reference interpreter of plans: a library of its own, because tests of everything that runs
# plans need it and nothing of ONNX.
add_library(slalom_reference STATIC ${CMAKE_CURRENT_LIST_DIR}/reference.cc
                                    ${CMAKE_CURRENT_LIST_DIR}/reference_linear.cc
                                    ${CMAKE_CURRENT_LIST_DIR}/reference_ops.cc)
add_library(slalom::reference ALIAS slalom_reference)
target_include_directories(slalom_reference PUBLIC ${PROJECT_SOURCE_DIR}/src)
target_link_libraries(slalom_reference PRIVATE slalom_flags PUBLIC slalom::trusted Threads::Threads)
