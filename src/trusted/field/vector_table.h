// SPDX-License-Identifier: Apache-2.0
// The loops and their table; included after vector.h and what an instruction set adds to it.

#include "field/vector_consume.h"
//
#include "field/vector_aes.h"
//
#include "field/vector_check.h"
#include "field/vector_loops.h"

inline Field field_of(Field f) noexcept { return f; }
inline Field field_of(const OutputTile& tile) noexcept { return tile.field; }
inline Field field_of(const CheckVector& vector) noexcept { return vector.field; }

// ByField::call takes the loop of the field that its first argument names.
template <auto kP24Loop, auto kP31Loop>
struct ByField;
template <class First, class... Rest, class R, R (*kP24Loop)(First, Rest...) noexcept,
          R (*kP31Loop)(First, Rest...) noexcept>
struct ByField<kP24Loop, kP31Loop> {
  static R call(First first, Rest... rest) noexcept {
    return field_of(first) == Field::kP24 ? kP24Loop(first, rest...) : kP31Loop(first, rest...);
  }
};
template <auto kP24Loop, auto kP31Loop>
constexpr auto by_field = ByField<kP24Loop, kP31Loop>::call;

constexpr Kernels kernels_of(std::string_view name,
                             bool (*supported)(const base::CpuFeatures&) noexcept) noexcept {
  constexpr Field k24 = Field::kP24;
  constexpr Field k31 = Field::kP31;
  return {
      .name = name,
      .supported = supported,
      .consume_codes = by_field<consume<k24, std::uint8_t>, consume<k31, std::uint8_t>>,
      .consume_integers = by_field<consume<k24, std::int32_t>, consume<k31, std::int32_t>>,
      .requantise_codes = requantise_codes,
      .apply_table = apply_table,
      .check_bytes = by_field<check_bytes<k24>, check_bytes<k31>>,
      .pack_check = by_field<pack_check<k24>, pack_check<k31>>,
      .check_input = by_field<check_input<k24>, check_input<k31>>,
      .send_codes = send_codes,
      .blind = by_field<blind<k24>, blind<k31>>,
      .fence = fence,
      .combine_words = by_field<combine<k24, std::uint32_t>, combine<k31, std::uint32_t>>,
      .combine_weights = by_field<combine<k24, std::int8_t>, combine<k31, std::int8_t>>,
      .combine_codes = by_field<combine<k24, std::uint8_t>, combine<k31, std::uint8_t>>,
      .dot_words = by_field<dot<k24, std::uint32_t>, dot<k31, std::uint32_t>>,
      .dot_codes = by_field<dot<k24, std::uint8_t>, dot<k31, std::uint8_t>>,
      .pack = by_field<pack<k24>, pack<k31>>,
      .unpack = by_field<unpack<k24>, unpack<k31>>,
      .expand_key = expand_key,
      .pad_candidates = by_field<pad_candidates<k24>, pad_candidates<k31>>,
  };
}
