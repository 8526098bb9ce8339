// SPDX-License-Identifier: Apache-2.0
// Element by element arithmetic of two or more tensors, and conversions. Integers wrap around on
// overflow, as in ONNX Runtime; shape arithmetic meets hostile numbers, so nothing is undefined.
#include <algorithm>
#include <type_traits>

#include "importer/ops/broadcast.h"
#include "importer/ops/op.h"
#include "importer/ops/types.h"

namespace slalom::importer {
namespace {

struct Plus {
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (std::is_same_v<T, float>) return a + b;
    return static_cast<T>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
  }
};

struct Minus {
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (std::is_same_v<T, float>) return a - b;
    return static_cast<T>(static_cast<std::uint64_t>(a) - static_cast<std::uint64_t>(b));
  }
};

struct Times {
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (std::is_same_v<T, float>) return a * b;
    return static_cast<T>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
  }
};

struct Over {
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (std::is_same_v<T, float>) {
      return a / b;
    } else {
      if (b == 0) fail("an integer is divided by zero");
      if constexpr (std::is_signed_v<T>) {
        if (b == -1) return Minus{}(T{0}, a);
      }
      return static_cast<T>(a / b);
    }
  }
};

struct Remainder {  // the sign of the divisor, as numpy.mod
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (std::is_same_v<T, float>) {
      fail("Mod of floats is not supported");
    } else {
      if (b == 0) fail("an integer is divided by zero");
      if constexpr (std::is_signed_v<T>) {
        if (b == -1) return 0;
        const auto rest = static_cast<T>(a % b);
        return rest != 0 && (rest < 0) != (b < 0) ? static_cast<T>(rest + b) : rest;
      }
      return static_cast<T>(a % b);
    }
  }
};

struct Least {
  template <class T>
  T operator()(T a, T b) const {
    return std::min(a, b);
  }
};

struct Most {
  template <class T>
  T operator()(T a, T b) const {
    return std::max(a, b);
  }
};

std::vector<TensorType> infer_variadic(const InferContext& context) {
  context.want_dtype(0,
                     {DType::kFloat32, DType::kInt8, DType::kUint8, DType::kInt32, DType::kInt64});
  TensorType type = context.type(0);
  for (std::size_t i = 1; i < context.input_count(); ++i) {
    context.want_dtype(i, {type.dtype});
    type.shape = broadcast_shapes(type.shape, context.shape(i));
  }
  return {type};
}

std::vector<TensorType> infer_mod(const InferContext& context) {
  if (context.node().int_or("fmod", 0) != 0) fail("fmod = 1 is not supported");
  context.want_dtype(0, {DType::kInt8, DType::kUint8, DType::kInt32, DType::kInt64});
  return infer_variadic(context);
}

template <class F>
void eval_variadic(const EvalContext& context) {
  with_type(context.out().dtype(), [&](auto type) {
    using T = typename decltype(type)::type;
    if constexpr (!std::is_same_v<T, bool>) {
      if (context.input_count() == 1) {
        context.out() = context.in(0);
        return;
      }
      // The first step has the full shape already, so that the others may work in place.
      apply_binary<T, T>(context.in(0), context.in(1), context.out(), F{});
      for (std::size_t i = 2; i < context.input_count(); ++i) {
        apply_binary<T, T>(context.out(), context.in(i), context.out(), F{});
      }
    }
  });
}

template <class F>
OpDef binary(std::string_view name, std::int64_t min_opset) {
  return op_row(name, min_opset, {2, 2}, FoldRule::kCheap, {}, infer_variadic, eval_variadic<F>);
}

template <class F>
OpDef variadic(std::string_view name, std::int64_t min_opset) {
  OpDef op = binary<F>(name, min_opset);
  op.min_inputs = 1;
  op.max_inputs = kVariadic;
  return op;
}

// --- Cast ---------------------------------------------------------------------------------

DType cast_target(const Node& node) {
  // Numbers of TensorProto.DataType.
  switch (node.int_or("to", 0)) {
    case 1:   // FLOAT
    case 10:  // FLOAT16: held as float32 throughout
    case 11:  // DOUBLE
    case 16:  // BFLOAT16
      return DType::kFloat32;
    case 2:
      return DType::kUint8;
    case 3:
      return DType::kInt8;
    case 6:
      return DType::kInt32;
    case 7:
      return DType::kInt64;
    case 9:
      return DType::kBool;
    default:
      fail("a cast to the ONNX type " + std::to_string(node.int_or("to", 0)) + " is not supported");
  }
}

std::vector<TensorType> infer_cast(const InferContext& context) {
  return {{.dtype = cast_target(context.node()), .shape = context.shape(0)}};
}

template <class From, class To>
To cast_one(From value) {
  if constexpr (std::is_same_v<To, bool>) return value != From{0};
  if constexpr (std::is_same_v<From, float> && std::is_integral_v<To>) {
    return truncate<To>(value);
  } else {
    return static_cast<To>(value);  // integers keep their low bits
  }
}

void cast(const EvalContext& context) {
  with_type(context.in(0).dtype(), [&](auto from_type) {
    with_type(context.out().dtype(), [&](auto to_type) {
      using From = typename decltype(from_type)::type;
      using To = typename decltype(to_type)::type;
      const auto in = context.in(0).view<From>();
      const auto out = context.out().view<To>();
      for (std::size_t i = 0; i < in.size(); ++i) out[i] = cast_one<From, To>(in[i]);
    });
  });
}

}  // namespace

std::vector<OpDef> arithmetic_ops() {
  OpDef mod = binary<Remainder>("Mod", 10);
  mod.infer = infer_mod;
  mod.attributes = {{.name = "fmod", .kind = AttributeKind::kInt}};
  return {binary<Plus>("Add", 7),
          binary<Minus>("Sub", 7),
          binary<Times>("Mul", 7),
          binary<Over>("Div", 7),
          variadic<Least>("Min", 8),
          variadic<Most>("Max", 8),
          variadic<Plus>("Sum", 8),
          std::move(mod),
          {.name = "Cast",
           .min_opset = 9,
           .max_opset = 21,
           .min_inputs = 1,
           .max_inputs = 1,
           .max_outputs = 1,
           .fold = FoldRule::kCheap,
           .attributes = {{.name = "to", .kind = AttributeKind::kInt},
                          {.name = "saturate", .kind = AttributeKind::kInt}},
           .infer = infer_cast,
           .eval = cast}};
}

}  // namespace slalom::importer
