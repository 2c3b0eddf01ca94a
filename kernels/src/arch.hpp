// Picks, at import, the best of the instruction sets a kernel was compiled for.
#pragma once

// PICK(name) is the function `name` of the first namespace that this processor runs.
#if defined(HAS_avx512)
#define PICK(name)                                                                                                      \
    (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&   \
             __builtin_cpu_supports("avx512bw")                                                                         \
         ? avx512::name                                                                                                 \
     : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? avx2::name                                     \
                                                                       : baseline::name)
#else
#define PICK(name) (baseline::name)
#endif
