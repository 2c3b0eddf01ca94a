// What the Python module and every instruction set's build agree on.
#pragma once
#include <cstdint>

struct WindowedShape {
    int64_t images, classes, guides, height, width;
    int radius, dilation;
    double sigma_px;  // infinite for no spatial Gaussian
    int relaxation;   // place in scribbleseg.ops.windowed.RELAXATIONS
    int threads;
};

// Arrays are contiguous, (images, channels, height, width); `source` and `destination` (images, height, width) may both be null
// for ones; a gradient that is null is not made. Returns the energy.
template <class T>
struct WindowedArrays {
    const T *probs, *guide, *source, *destination;
    T *grad_probs, *grad_guide;
};
