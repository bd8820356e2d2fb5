// GroupNorm of feature maps as stock Jittor holds them, (n, channels, height, width): a group is one run of memory.
// Every function returns when its result is complete.
#include <omp.h>

#include <cmath>

#include "silu.h"

extern "C" {

// y = GroupNorm(x), then SiLU when asked; moments (n, groups, 2): each group's mean and 1/std.
void ddpm_group_norm_planes(const float* x, const float* weight, const float* bias, float* y, float* moments, long n,
                            long channels, long pixels, long groups, float eps, long silu) {
    const long width = channels / groups, size = width * pixels;
#pragma omp parallel for schedule(static) if (n * channels * pixels >= kSerial)
    for (long i = 0; i < n * groups; i++) {
        const float* xi = x + i * size;
        float sum = 0, square = 0;
#pragma omp simd reduction(+ : sum)
        for (long j = 0; j < size; j++) sum += xi[j];
        const float mean = sum / size;
#pragma omp simd reduction(+ : square)
        for (long j = 0; j < size; j++) square += (xi[j] - mean) * (xi[j] - mean);
        const float inverse = 1.f / std::sqrt(square / size + eps);
        moments[2 * i] = mean;
        moments[2 * i + 1] = inverse;
        for (long c = 0; c < width; c++) {
            const long channel = i % groups * width + c;
            const float a = inverse * weight[channel], b = bias[channel] - mean * a;
            const float* row = xi + c * pixels;
            float* out = y + i * size + c * pixels;
            if (silu) {
#pragma omp simd
                for (long j = 0; j < pixels; j++) {
                    const float z = a * row[j] + b;
                    out[j] = z * sigmoid(z);
                }
            } else {
#pragma omp simd
                for (long j = 0; j < pixels; j++) out[j] = a * row[j] + b;
            }
        }
    }
}

// Gradients of ddpm_group_norm_planes; sums (2, n, channels): per image the parts of the gradients of bias and weight.
void ddpm_group_norm_planes_backward(const float* x, const float* weight, const float* bias, const float* moments,
                                     const float* gy, float* gx, float* gweight, float* gbias, float* sums, long n,
                                     long channels, long pixels, long groups, long silu) {
    const long width = channels / groups, size = width * pixels;
#pragma omp parallel for schedule(static) if (n * channels * pixels >= kSerial)
    for (long i = 0; i < n * groups; i++) {
        const float mean = moments[2 * i], inverse = moments[2 * i + 1];
        float total = 0, weighted = 0;
        for (long c = 0; c < width; c++) {
            const long channel = i % groups * width + c, at = i * size + c * pixels;
            const float w = weight[channel], b = bias[channel], *row = x + at, *grow = gy + at;
            float *out = gx + at, s1 = 0, s2 = 0;
#pragma omp simd reduction(+ : s1, s2)
            for (long j = 0; j < pixels; j++) {
                const float hat = (row[j] - mean) * inverse, g = silu ? grow[j] * silu_slope(hat * w + b) : grow[j];
                out[j] = g;
                s1 += g;
                s2 += g * hat;
            }
            sums[i * width + c] = s1;
            sums[n * channels + i * width + c] = s2;
            total += s1 * w;
            weighted += s2 * w;
        }
        total /= size;
        weighted /= size;
        for (long c = 0; c < width; c++) {
            const float w = weight[i % groups * width + c], *row = x + i * size + c * pixels;
            float* out = gx + i * size + c * pixels;
#pragma omp simd
            for (long j = 0; j < pixels; j++)
                out[j] = inverse * (w * out[j] - total - (row[j] - mean) * inverse * weighted);
        }
    }
    for (long c = 0; c < channels; c++) gbias[c] = gweight[c] = 0;
    for (long i = 0; i < n; i++)
        for (long c = 0; c < channels; c++) {
            gbias[c] += sums[i * channels + c];
            gweight[c] += sums[(n + i) * channels + c];
        }
}

}  // extern "C"
