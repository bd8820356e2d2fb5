// SiLU, x sigmoid(x), and when to use more than one thread.
#pragma once

#include <cmath>

// Arrays with fewer elements than this are not worth waking other threads for.
constexpr long kSerial = 1 << 15;

inline float sigmoid(float x) { return 1.f / (1.f + std::exp(-x)); }

inline float silu_slope(float x) {
    const float s = sigmoid(x);
    return s * (1.f + x * (1.f - s));
}
