# SPDX-License-Identifier: Apache-2.0
# The back half of the importer: quantiser, plans, report, zoo.
target_sources(slalom_importer PRIVATE
  convert.cc convert_text.cc quantise.cc report.cc zoo.cc
  zoo/builder.cc zoo/inception.cc zoo/mobilenet.cc zoo/normalise.cc zoo/resnet.cc zoo/vgg.cc
  quant/annotate.cc quant/calibrate.cc quant/compare.cc quant/emit.cc quant/emit_ops.cc
  quant/equalise.cc quant/fuse.cc quant/lower.cc quant/lower_binary.cc quant/lower_linear.cc
  quant/lower_movement.cc quant/lower_pad.cc quant/lower_pool.cc quant/lower_unary.cc quant/net.cc quant/ranges.cc
  quant/view.cc quant/weights.cc)
target_link_libraries(slalom_importer PUBLIC slalom::reference slalom::trusted)
