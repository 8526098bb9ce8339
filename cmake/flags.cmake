# SPDX-License-Identifier: Apache-2.0
# Flags for our own code only: an INTERFACE target that is never exported.

add_library(slalom_flags INTERFACE)
target_compile_options(slalom_flags INTERFACE
  -Wall -Wextra -Wconversion -Wshadow -Wnon-virtual-dtor -Werror
  # One rounding per operation on every processor (docs/mathematics.md): never fuse a*b+c.
  -ffp-contract=off -fno-math-errno
  # Designated initialisers leave out members that have defaults, on purpose.
  -Wno-missing-field-initializers)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 reports its own AVX-512 headers as uninitialised and some inlined vector code as overflowing.
  target_compile_options(slalom_flags INTERFACE -Wno-maybe-uninitialized -Wno-uninitialized -Wno-stringop-overflow -Wno-array-bounds -Wno-restrict)
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  # Hints for g++ (GCC ivdep) mean nothing to clang, and are only hints.
  target_compile_options(slalom_flags INTERFACE -Wno-unknown-pragmas)
endif()

# The trusted process: no exceptions, no RTTI, hardened, with the library's assertions.
add_library(slalom_trusted_flags INTERFACE)
target_link_libraries(slalom_trusted_flags INTERFACE slalom_flags)
target_compile_options(slalom_trusted_flags INTERFACE
  -fno-exceptions -fno-rtti -fvisibility=hidden -fstack-protector-strong)
target_compile_definitions(slalom_trusted_flags INTERFACE _GLIBCXX_ASSERTIONS)
if(NOT CMAKE_BUILD_TYPE STREQUAL "Debug" AND NOT SLALOM_SANITIZE)
  target_compile_definitions(slalom_trusted_flags INTERFACE _FORTIFY_SOURCE=2)
endif()
target_link_options(slalom_trusted_flags INTERFACE -Wl,-z,relro,-z,now,-z,noexecstack)

if(SLALOM_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-sanitize=vptr -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
elseif(SLALOM_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # Fences order stores to shared slots; the sanitizer does not model them and says so.
    target_compile_options(slalom_flags INTERFACE -Wno-tsan)
  endif()
  add_link_options(-fsanitize=thread)
elseif(SLALOM_SANITIZE STREQUAL "fuzzer")
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-sanitize=vptr)
  add_link_options(-fsanitize=address,undefined)
endif()
