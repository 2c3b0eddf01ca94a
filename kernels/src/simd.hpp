// Vectors as long as a register of the instruction set that this file is compiled for.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

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

// exp for x <= 0: relative error below 2e-7; zero from -87 on; NaN stays NaN.
inline vec<float> exp_negative(vec<float> x) {
    typedef int32_t ints __attribute__((vector_size(BYTES)));
    vec<float> y = x > -87.0f ? x : fill<float>(-87.0f);
    const vec<float> shift = fill<float>(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    vec<float> n = y * 1.44269504f + shift;
    ints power = (ints)n;  // the integer stands in the lowest bits
    n -= shift;
    vec<float> r = y - n * 0.693359375f + n * 2.12194440e-4f;
    vec<float> e = fill<float>(1.9875691500e-4f);
    e = e * r + 1.3981999507e-3f;
    e = e * r + 8.3334519073e-3f;
    e = e * r + 4.1665795894e-2f;
    e = e * r + 1.6666665459e-1f;
    e = e * r + 5.0000001201e-1f;
    e = e * (r * r) + r + 1.0f;
    e = (vec<float>)((ints)e + (power << 23));
    e = x > -87.0f ? e : fill<float>(0.0f);
    return x == x ? e : x;
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
