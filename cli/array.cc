// SPDX-License-Identifier: Apache-2.0
#include "cli/array.h"

#include <zip.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cctype>
#include <charconv>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "base/bytes.h"

namespace slalom::cli {
namespace {

constexpr Error kNotNpy{Errc::kMalformed, "it is a damaged .npy array"};
constexpr Error kNotNpz{Errc::kMalformed, "it is a damaged .npz file"};
constexpr Error kNotIdx{Errc::kMalformed, "it is a damaged IDX file"};
constexpr Error kNotGzip{Errc::kMalformed, "it is a damaged gzip file"};
constexpr Error kHuge{Errc::kMalformed, "it holds more than 4 GiB"};

// Header is the dictionary of an .npy file.
struct Header {
  std::string type;
  bool fortran = false;
  std::vector<std::size_t> shape;
};

// HeaderParser reads the one form that numpy.save writes: a Python dictionary literal with the keys
// descr, fortran_order and shape, in any order, spaces where Python allows them.
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) noexcept : rest_(text) {}

  std::optional<Header> parse() {
    Header header;
    unsigned seen = 0;
    if (!eat('{')) return std::nullopt;
    while (!eat('}')) {
      const auto key = quoted();
      if (!key || !eat(':')) return std::nullopt;
      const unsigned bit = *key == "descr" ? 1 : *key == "fortran_order" ? 2 : 4;
      if ((seen & bit) != 0 || (bit == 4 && *key != "shape")) return std::nullopt;
      seen |= bit;
      if (!value(bit, header)) return std::nullopt;
      if (!eat(',')) {
        if (!eat('}')) return std::nullopt;
        break;
      }
    }
    spaces();
    if (seen != 7 || !rest_.empty()) return std::nullopt;
    return header;
  }

 private:
  void spaces() {
    while (!rest_.empty() && std::isspace(static_cast<unsigned char>(rest_.front())) != 0) {
      rest_.remove_prefix(1);
    }
  }
  bool eat(char c) {
    spaces();
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool eat_word(std::string_view word) {
    spaces();
    if (!rest_.starts_with(word)) return false;
    rest_.remove_prefix(word.size());
    return true;
  }
  std::optional<std::string> quoted() {
    spaces();
    if (rest_.empty() || (rest_.front() != '\'' && rest_.front() != '"')) return std::nullopt;
    const std::size_t end = rest_.find(rest_.front(), 1);
    if (end == std::string_view::npos) return std::nullopt;
    std::string out(rest_.substr(1, end - 1));
    rest_.remove_prefix(end + 1);
    return out;
  }
  bool value(unsigned bit, Header& header) {
    if (bit == 1) {
      auto type = quoted();
      if (type) header.type = std::move(*type);
      return type.has_value();
    }
    if (bit == 2) {
      header.fortran = eat_word("True");
      return header.fortran || eat_word("False");
    }
    if (!eat('(')) return false;
    while (!eat(')')) {
      spaces();
      std::size_t dimension = 0;
      const auto [end, error] =
          std::from_chars(rest_.data(), rest_.data() + rest_.size(), dimension);
      if (error != std::errc() || header.shape.size() == 8) return false;
      rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
      header.shape.push_back(dimension);
      if (!eat(',')) return eat(')');
    }
    return true;
  }

  std::string_view rest_;
};

std::optional<std::size_t> product(std::span<const std::size_t> shape) {
  std::size_t n = 1;
  for (const std::size_t d : shape) {
    if (__builtin_mul_overflow(n, d, &n)) return std::nullopt;
  }
  return n;
}

// IEEE 754 binary16 to binary32, exact.
float half_to_float(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000U) << 16U;
  const std::uint32_t exponent = (h >> 10U) & 31U;
  const std::uint32_t mantissa = h & 0x3FFU;
  if (exponent == 0) {
    const float tiny = static_cast<float>(mantissa) * 0x1p-24F;
    return sign != 0 ? -tiny : tiny;
  }
  const std::uint32_t wide = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | (wide << 23U) | (mantissa << 13U));
}

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

// fortran_order gives for each row-major position the position in column-major storage.
std::vector<std::size_t> fortran_order(std::span<const std::size_t> shape, std::size_t n) {
  std::vector<std::size_t> from(n);
  std::vector<std::size_t> index(shape.size(), 0);
  for (std::size_t i = 0; i < n; ++i) {
    std::size_t at = 0;
    for (std::size_t d = shape.size(); d-- > 0;) at = at * shape[d] + index[d];
    from[i] = at;
    for (std::size_t d = shape.size(); d-- > 0;) {
      if (++index[d] < shape[d]) break;
      index[d] = 0;
    }
  }
  return from;
}

template <class Out, class Convert>
std::vector<Out> elements(std::span<const std::byte> data, const Header& header, std::size_t n,
                          std::size_t bytes_each, Convert convert) {
  std::vector<Out> out(n);
  if (header.fortran && header.shape.size() > 1) {
    const auto from = fortran_order(header.shape, n);
    for (std::size_t i = 0; i < n; ++i) out[i] = convert(data.data() + from[i] * bytes_each);
  } else {
    for (std::size_t i = 0; i < n; ++i) out[i] = convert(data.data() + i * bytes_each);
  }
  return out;
}

struct ZipCloser {
  void operator()(zip_t* zip) const noexcept { zip_discard(zip); }
};
struct ZipFileCloser {
  void operator()(zip_file_t* file) const noexcept { zip_fclose(file); }
};

Result<std::vector<std::byte>> unzip(zip_t* zip, zip_uint64_t index, std::uint64_t size) {
  const std::unique_ptr<zip_file_t, ZipFileCloser> file(zip_fopen_index(zip, index, 0));
  if (!file) return kNotNpz;
  std::vector<std::byte> bytes(size);
  std::size_t done = 0;
  while (done < bytes.size()) {
    const zip_int64_t n = zip_fread(file.get(), bytes.data() + done, bytes.size() - done);
    if (n <= 0) return kNotNpz;
    done += static_cast<std::size_t>(n);
  }
  // One read more makes libzip compare the checksum, and finds a member longer than it said.
  std::byte more{};
  if (zip_fread(file.get(), &more, 1) != 0) return kNotNpz;
  return bytes;
}

}  // namespace

std::size_t Array::image_elements() const noexcept {
  std::size_t n = 1;
  for (std::size_t i = 1; i < shape.size(); ++i) n *= shape[i];
  return n;
}

Result<Array> decode_npy(std::span<const std::byte> bytes) {
  constexpr std::array<unsigned char, 6> kMagic{0x93, 'N', 'U', 'M', 'P', 'Y'};
  base::ByteReader reader(bytes);
  const auto magic = reader.take(kMagic.size());
  if (magic.empty() || std::memcmp(magic.data(), kMagic.data(), kMagic.size()) != 0) return kNotNpy;
  const auto major = reader.read<std::uint8_t>();
  reader.read<std::uint8_t>();
  if (major < 1 || major > 3) return kNotNpy;
  const std::size_t length =
      major == 1 ? reader.read<std::uint16_t>() : reader.read<std::uint32_t>();
  const auto text = reader.take(length);
  if (!reader.ok()) return kNotNpy;
  const auto header =
      HeaderParser({reinterpret_cast<const char*>(text.data()), text.size()}).parse();
  if (!header) return kNotNpy;
  const auto n = product(header->shape);
  if (!n) return kHuge;
  const std::string& type = header->type;
  const std::size_t bytes_each = type == "<f8"                    ? 8
                                 : type == "<f4"                  ? 4
                                 : type == "<f2"                  ? 2
                                 : type == "|u1" || type == "|b1" ? 1
                                                                  : 0;
  if (bytes_each == 0) {
    return Error{Errc::kMalformed,
                 "its elements are none of float16, float32, float64 and uint8; convert it first"};
  }
  const auto data = reader.take(reader.remaining());
  if (data.size() % bytes_each != 0 || data.size() / bytes_each != *n) return kNotNpy;
  Array out{{}, header->shape, {}};
  switch (bytes_each) {
    case 8:
      out.values = elements<float>(data, *header, *n, 8, [](const std::byte* p) {
        return static_cast<float>(load<double>(p));
      });
      break;
    case 4:
      out.values = elements<float>(data, *header, *n, 4, load<float>);
      break;
    case 2:
      out.values = elements<float>(data, *header, *n, 2, [](const std::byte* p) {
        return half_to_float(load<std::uint16_t>(p));
      });
      break;
    default:
      out.values = elements<std::uint8_t>(data, *header, *n, 1, load<std::uint8_t>);
  }
  return out;
}

Result<std::vector<Array>> decode_npz(std::span<const std::byte> bytes) {
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t* source = zip_source_buffer_create(bytes.data(), bytes.size(), 0, &error);
  if (source == nullptr) return Error{Errc::kInternal, "libzip does not start"};
  const std::unique_ptr<zip_t, ZipCloser> zip(zip_open_from_source(source, ZIP_RDONLY, &error));
  if (!zip) {
    zip_source_free(source);
    return kNotNpz;
  }
  std::vector<Array> arrays;
  std::uint64_t total = 0;
  const zip_int64_t num = zip_get_num_entries(zip.get(), 0);
  for (zip_int64_t i = 0; i < num; ++i) {
    zip_stat_t stat{};
    const auto index = static_cast<zip_uint64_t>(i);
    if (zip_stat_index(zip.get(), index, 0, &stat) != 0 || (stat.valid & ZIP_STAT_SIZE) == 0 ||
        (stat.valid & ZIP_STAT_NAME) == 0) {
      return kNotNpz;
    }
    // A small file can promise much; what it promises is bounded before memory is taken.
    if (stat.size > kMaxArrayBytes - total || stat.size / 1100 > bytes.size()) return kHuge;
    total += stat.size;
    auto member = unzip(zip.get(), index, stat.size);
    if (!member.ok()) return member.error();
    auto array = decode_npy(*member);
    if (!array.ok()) return array.error();
    array->name = stat.name;
    if (array->name.ends_with(".npy")) array->name.resize(array->name.size() - 4);
    arrays.push_back(*std::move(array));
  }
  if (arrays.empty()) return kNotNpz;
  return arrays;
}

Result<Array> decode_idx(std::span<const std::byte> bytes) {
  base::ByteReader reader(bytes);
  const auto magic = reader.read<std::uint32_t>();  // big-endian in the file: 00 00 08 nd
  const unsigned rank = magic >> 24U;
  if (!reader.ok() || (magic & 0x00FFFFFFU) != 0x00080000U || rank < 1 || rank > 4) return kNotIdx;
  Array out;
  for (unsigned d = 0; d < rank; ++d) {
    out.shape.push_back(__builtin_bswap32(reader.read<std::uint32_t>()));
  }
  const auto n = product(out.shape);
  if (!reader.ok() || !n || *n != reader.remaining()) return kNotIdx;
  const auto data = reader.take(*n);
  std::vector<std::uint8_t> values(data.size());
  if (!data.empty()) std::memcpy(values.data(), data.data(), data.size());
  out.values = std::move(values);
  return out;
}

Result<std::vector<std::byte>> gunzip(std::span<const std::byte> bytes, std::uint64_t max_bytes) {
  if (bytes.size() < 2 || bytes[0] != std::byte{0x1F} || bytes[1] != std::byte{0x8B}) {
    return std::vector<std::byte>(bytes.begin(), bytes.end());
  }
  z_stream stream{};
  constexpr int kGzipWindow = 15 + 16;
  if (inflateInit2(&stream, kGzipWindow) != Z_OK) return Error{Errc::kInternal, "zlib failed"};
  const std::unique_ptr<z_stream, decltype(&inflateEnd)> guard(&stream, inflateEnd);
  if (bytes.size() > std::numeric_limits<uInt>::max()) return kHuge;
  // zlib's interface predates const; it does not write through next_in.
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  std::vector<std::byte> out;
  int status = Z_OK;
  while (status == Z_OK) {
    constexpr std::size_t kStep = std::size_t{1} << 20U;
    if (out.size() > max_bytes) return kHuge;
    const std::size_t before = out.size();
    out.resize(before + kStep);
    stream.next_out = reinterpret_cast<Bytef*>(out.data() + before);
    stream.avail_out = kStep;
    status = inflate(&stream, Z_NO_FLUSH);
    out.resize(before + kStep - stream.avail_out);
    if (status == Z_OK && stream.avail_out != 0 && stream.avail_in == 0) return kNotGzip;
  }
  if (status != Z_STREAM_END || stream.avail_in != 0) return kNotGzip;
  return out;
}

}  // namespace slalom::cli
