// What the Python module and every instruction set's build agree on.
#pragma once
#include <cstdint>

struct TreeShape {
    int64_t images, classes, height, width;
    int threads;
};

// Arrays are contiguous. Edge maps are (images, 2, height, width): [0] the edge from a pixel to the one on its right, [1] to the
// one below; the last column of [0] and the last row of [1] are no edges. `parent` and `order` are (images, height * width).
template <class T>
struct TreeArrays {
    const T *values, *affinity;
    const int32_t *parent, *order;
    T *filtered, *norm;                               // results of the filter, (images, classes, height, width) and (images, height, width)
    const T *grad, *given_filtered, *given_norm;      // what the gradient starts from
    T *grad_values, *grad_affinity;                   // its results; null where not wanted
};
