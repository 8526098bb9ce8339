// SPDX-License-Identifier: Apache-2.0
// The table of one implementation over V; included after the other vector headers.

template <class V>
constexpr Kernels kernels_over(std::string_view name,
                               bool (*supported)(const base::CpuFeatures&) noexcept,
                               decltype(Kernels::pad_candidates) pads) noexcept {
  return {
      .name = name,
      .supported = supported,
      .consume_codes = consume<V, Store::kCodes>,
      .consume_integers = consume<V, Store::kIntegers>,
      .consume_raw = consume<V, Store::kRaw>,
      .requantise_codes = requantise<V, Store::kCodes>,
      .requantise_integers = requantise<V, Store::kIntegers>,
      .apply_table = V::apply_table,
      .check_bytes = check_bytes<V>,
      .pack_check = pack_check<V>,
      .check_input = check_input<V>,
      .send_codes = send_codes<V>,
      .blind = blind<V>,
      .fence = V::fence,
      .combine_words = combine_words<V>,
      .combine_weights = combine_weights<V>,
      .combine_codes = combine_codes<V>,
      .dot_words = dot_words<V>,
      .dot_codes = dot_codes<V>,
      .pack = pack<V>,
      .unpack = unpack<V>,
      .split_limbs = split_limbs<V>,
      .recombine = recombine<V>,
      .expand_key = expand_key,
      .pad_candidates = pads,
  };
}
