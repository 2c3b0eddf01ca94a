// What the Python module and every instruction set's build agree on.
#pragma once
#include <cstdint>

struct SumShape {
    int64_t images, guides, channels, here, there;
    int threads;
};

// Arrays are contiguous: x (images, guides, here), y (images, guides, there), v (images, channels, there).
// With `u` (images, channels, here) `out` is (images, guides, here), else it is (images, channels, here).
template <class T>
struct SumArrays {
    const T *x, *y, *u, *v;
    T* out;
};

struct LatticeShape {
    int64_t images, guides, channels, pixels;
    int threads;
};

// guide (images, guides, pixels); values and out (images, channels, pixels). A pixel whose value in the last channel is zero
// takes no part. scale and shift (guides) place the guide on the lattice, and hash (guides) names its points.
template <class T>
struct LatticeArrays {
    const T *guide, *values;
    T* out;
    const double *scale, *shift;
    const int64_t* hash;
};
