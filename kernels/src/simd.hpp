// Vectors as long as a register of the instruction set that this file is compiled for.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace ARCH {
namespace {

constexpr int BYTES = VECTOR_BYTES;  // of a register of this instruction set
template <class T> constexpr int LANES = BYTES / int(sizeof(T));
template <class T> struct vector { typedef T type __attribute__((vector_size(BYTES))); };
template <class T> using vec = typename vector<T>::type;

template <class T> inline vec<T> load(const T* p) { vec<T> v; std::memcpy(&v, p, BYTES); return v; }
// Loads into a register that stays one: compilers would otherwise load anew for every use, and loads are what these loops wait for.
template <class T> inline vec<T> load_once(const T* p) {
    vec<T> v = load(p);
#if defined(__AVX512F__)
    asm("" : "+v"(v));
#elif defined(__AVX2__)
    asm("" : "+x"(v));
#endif
    return v;
}
template <class T> inline vec<T> fill(T x) { return vec<T>{} + x; }

// The larger of the two; NaN where x is.
inline vec<float> at_least(vec<float> lowest, vec<float> x) {
#if defined(__AVX512F__)
    return (vec<float>)_mm512_max_ps((__m512)lowest, (__m512)x);
#elif defined(__AVX2__)
    return (vec<float>)_mm256_max_ps((__m256)lowest, (__m256)x);
#else
    return x < lowest ? lowest : x;
#endif
}

// exp for x <= 0: 2^n 2^r with n an integer and r at most a half, 2^r by a polynomial. Relative error below 2e-7 where exp is
// above 1e-4, below 5e-6 everywhere; 1 at 0; zero from -88.1 on; NaN stays NaN.
inline vec<float> exp_negative(vec<float> x) {
    typedef int32_t ints __attribute__((vector_size(BYTES)));
    const vec<float> y = at_least(fill<float>(-127.0f), x * 1.44269504f);
    const vec<float> shift = fill<float>(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    const vec<float> n = y + shift;                     // which stands in the lowest bits
    const vec<float> r = y - (n - shift);
    vec<float> e = fill<float>(1.3274633093e-3f);
    e = e * r + 9.6719618887e-3f;
    e = e * r + 5.5506784469e-2f;
    e = e * r + 2.4022234976e-1f;
    e = e * r + 6.9314706326e-1f;
    e = e * r + 1.0f;
    return (vec<float>)((ints)e + ((ints)n << 23));
}
inline vec<double> exp_negative(vec<double> x) {
    for (int lane = 0; lane < LANES<double>; ++lane) x[lane] = std::exp(x[lane]);
    return x;
}
template <class T> inline vec<T> log_each(vec<T> x) {
    for (int lane = 0; lane < LANES<T>; ++lane) x[lane] = std::log(x[lane]);
    return x;
}

}  // namespace
}  // namespace ARCH
