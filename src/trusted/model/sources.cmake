target_sources(slalom_trusted PRIVATE model/plan_bounds.cc model/plan_codec.cc model/plan_validate.cc)
