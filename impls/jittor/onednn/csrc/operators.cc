// CPU operators of the U-Net on dense float32 arrays; feature maps are channels-last, (n, height, width, channels).
// Every function returns when its result is complete.
#include <omp.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#include "silu.h"

extern "C" int dnnl_sgemm(char, char, long, long, long, float, const float*, long, const float*, long, float, float*, long);
// As dnnl_sgemm, of bfloat16; the library has it, though its headers do not tell.
extern "C" int dnnl_gemm_bf16bf16f32(char, char, long, long, long, float, const uint16_t*, long, const uint16_t*, long, float, float*, long);

namespace {

// One product per item; few items keep the threads inside the product, many get one thread each.
template <class Body>
void for_each_item(long items, Body body) {
    if (items < omp_get_max_threads()) {
        for (long i = 0; i < items; i++) body(i);
    } else {
#pragma omp parallel for
        for (long i = 0; i < items; i++) body(i);
    }
}

// The bits that bfloat16 keeps of n numbers, rounded to the nearest, ties to even.
void to_bfloat16(const float* x, long n, uint16_t* y) {
#pragma omp simd
    for (long i = 0; i < n; i++) {
        uint32_t bits;
        std::memcpy(&bits, x + i, sizeof bits);
        y[i] = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    }
}

// c (m, n) = a (m, k) b (k, n), or of their transposes; where asked, of what bfloat16 keeps of both, added up in float32.
void product(char ta, char tb, long m, long n, long k, const float* a, const float* b, float* c, bool bf16) {
    const long lda = ta == 'N' ? k : m, ldb = tb == 'N' ? n : k;
    if (!bf16) {
        dnnl_sgemm(ta, tb, m, n, k, 1.f, a, lda, b, ldb, 0.f, c, n);
        return;
    }
    static thread_local std::vector<uint16_t> kept;
    kept.resize(std::max<size_t>(kept.size(), m * k + k * n));
    to_bfloat16(a, m * k, kept.data());
    to_bfloat16(b, k * n, kept.data() + m * k);
    dnnl_gemm_bf16bf16f32(ta, tb, m, n, k, 1.f, kept.data(), lda, kept.data() + m * k, ldb, 0.f, c, n);
}

void softmax_row(float* x, long n, float scale) {
    float top = x[0], sum = 0;
#pragma omp simd reduction(max : top)
    for (long i = 1; i < n; i++) top = x[i] > top ? x[i] : top;
#pragma omp simd reduction(+ : sum)
    for (long i = 0; i < n; i++) sum += x[i] = std::exp((x[i] - top) * scale);
    const float inverse = 1.f / sum;
#pragma omp simd
    for (long i = 0; i < n; i++) x[i] *= inverse;
}

// dx = y (dy - sum(dy y)) scale, in the place of dy.
void softmax_row_backward(const float* y, float* dy, long n, float scale) {
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (long i = 0; i < n; i++) dot += y[i] * dy[i];
#pragma omp simd
    for (long i = 0; i < n; i++) dy[i] = y[i] * (dy[i] - dot) * scale;
}

// Dropout's factor of element i: a hash of (seed, i) (murmur3's finaliser) decides, so that no mask needs storing.
inline float keep(uint32_t i, uint32_t seed, uint32_t threshold, float factor) {
    uint32_t h = i * 0x9E3779B1u + seed;
    h = (h ^ (h >> 16)) * 0x85EBCA6Bu;
    h = (h ^ (h >> 13)) * 0xC2B2AE35u;
    h ^= h >> 16;
    return h < threshold ? 0.f : factor;
}

struct Dropout {
    uint32_t seed, threshold;
    float factor;
    Dropout(long seed, float p) : seed(seed), threshold(static_cast<uint32_t>(p * 4294967296.0)), factor(1.f / (1.f - p)) {}
};

// Channels that one thread takes at a time: whole groups, whole cache lines where possible, and few enough to stay in cache.
long chunk_of(long channels, long groups) {
    const long step = std::lcm(channels / groups, 16L);
    return std::min(channels, (64 + step - 1) / step * step);
}

// Runs body(image, first channel, channels) over all images and chunks of channels.
template <class Body>
void for_each_chunk(long n, long channels, long pixels, long groups, Body body) {
    const long chunk = chunk_of(channels, groups), chunks = (channels + chunk - 1) / chunk;
#pragma omp parallel for schedule(static) if (n * channels * pixels >= kSerial)
    for (long i = 0; i < n * chunks; i++) {
        const long first = i % chunks * chunk;
        body(i / chunks, first, std::min(chunk, channels - first));
    }
}

}  // namespace

extern "C" {

// o (items, l, d) = softmax(scale q k^T) v, and the probabilities p (items, l, s); q (items, l, d), k and v (items, s, d); bf16: products
// of what bfloat16 keeps.
void ddpm_attention(const float* q, const float* k, const float* v, float* o, float* p, long items, long l, long s, long d,
                    float scale, long bf16) {
    for_each_item(items, [=](long i) {
        float* pi = p + i * l * s;
        product('N', 'T', l, s, d, q + i * l * d, k + i * s * d, pi, bf16);
        for (long r = 0; r < l; r++) softmax_row(pi + r * s, s, scale);
        product('N', 'N', l, d, s, pi, v + i * s * d, o + i * l * d, bf16);
    });
}

// Gradients of ddpm_attention; work is (items, l, s).
void ddpm_attention_backward(const float* q, const float* k, const float* v, const float* p, const float* go, float* gq,
                             float* gk, float* gv, float* work, long items, long l, long s, long d, float scale,
                             long bf16) {
    for_each_item(items, [=](long i) {
        const float *pi = p + i * l * s, *goi = go + i * l * d;
        float* w = work + i * l * s;
        product('T', 'N', s, d, l, pi, goi, gv + i * s * d, bf16);
        product('N', 'T', l, s, d, goi, v + i * s * d, w, bf16);
        for (long r = 0; r < l; r++) softmax_row_backward(pi + r * s, w + r * s, s, scale);
        product('N', 'N', l, d, s, w, k + i * s * d, gq + i * l * d, bf16);
        product('T', 'N', s, d, l, w, q + i * l * d, gk + i * s * d, bf16);
    });
}

// y = GroupNorm(x + shift), then, when asked, SiLU and dropout; shift (n, channels) is what the timestep adds, or null.
// moments (n, channels, 2): each channel's mean less its shift, and 1/std.
void ddpm_group_norm(const float* x, const float* shift, const float* weight, const float* bias, float* y, float* moments,
                     long n, long channels, long pixels, long groups, float eps, long silu, long seed, float p) {
    const long width = channels / groups;
    const Dropout dropout(seed, p);
    for_each_chunk(n, channels, pixels, groups, [=](long image, long first, long size) {
        std::vector<float> buffer(3 * size);
        float *sum = buffer.data(), *a = sum + size, *b = a + size;
        const float *xi = x + image * pixels * channels + first, *t = shift ? shift + image * channels + first : nullptr;
        float *yi = y + image * pixels * channels + first, *m = moments + 2 * (image * channels + first);
        for (long j = 0; j < pixels; j++) {
            const float* row = xi + j * channels;
#pragma omp simd
            for (long c = 0; c < size; c++) sum[c] += row[c];
        }
        for (long g = 0; g < size; g += width) {
            float mean = 0;
            for (long c = g; c < g + width; c++) mean += sum[c] + (t ? pixels * t[c] : 0.f);
            mean /= width * pixels;
            for (long c = g; c < g + width; c++) b[c] = t ? mean - t[c] : mean;
        }
        std::fill_n(sum, size, 0.f);
        for (long j = 0; j < pixels; j++) {
            const float* row = xi + j * channels;
#pragma omp simd
            for (long c = 0; c < size; c++) sum[c] += (row[c] - b[c]) * (row[c] - b[c]);
        }
        for (long g = 0; g < size; g += width) {
            float variance = 0;
            for (long c = g; c < g + width; c++) variance += sum[c];
            const float inverse = 1.f / std::sqrt(variance / (width * pixels) + eps);
            for (long c = g; c < g + width; c++) {
                m[2 * c] = b[c];
                m[2 * c + 1] = inverse;
                a[c] = inverse * weight[first + c];
                b[c] = bias[first + c] - b[c] * a[c];
            }
        }
        for (long j = 0; j < pixels; j++) {
            const float* row = xi + j * channels;
            float* out = yi + j * channels;
            const uint32_t at = (image * pixels + j) * channels + first;
            if (!silu) {
#pragma omp simd
                for (long c = 0; c < size; c++) out[c] = a[c] * row[c] + b[c];
            } else if (!dropout.threshold) {
#pragma omp simd
                for (long c = 0; c < size; c++) {
                    const float z = a[c] * row[c] + b[c];
                    out[c] = z * sigmoid(z);
                }
            } else {
#pragma omp simd
                for (long c = 0; c < size; c++) {
                    const float z = a[c] * row[c] + b[c];
                    out[c] = z * sigmoid(z) * keep(at + c, dropout.seed, dropout.threshold, dropout.factor);
                }
            }
        }
    });
}

// Gradients of ddpm_group_norm; sums (2, n, channels): per image the parts of the gradients of bias and weight.
void ddpm_group_norm_backward(const float* x, const float* weight, const float* bias, const float* moments, const float* gy,
                              float* gx, float* gshift, float* gweight, float* gbias, float* sums, long n, long channels,
                              long pixels, long groups, long silu, long seed, float p) {
    const long width = channels / groups;
    const Dropout dropout(seed, p);
    for_each_chunk(n, channels, pixels, groups, [=](long image, long first, long size) {
        std::vector<float> buffer(6 * size);
        float *mean = buffer.data(), *inverse = mean + size, *hats = inverse + size, *pa = hats + size, *qa = pa + size,
              *ra = qa + size;
        const long at = image * pixels * channels + first, at_channel = image * channels + first;
        const float *xi = x + at, *gyi = gy + at, *m = moments + 2 * at_channel, *w = weight + first, *b = bias + first;
        float *gxi = gx + at, *s1 = sums + at_channel, *s2 = s1 + n * channels;
        for (long c = 0; c < size; c++) {
            mean[c] = m[2 * c];
            inverse[c] = m[2 * c + 1];
            s1[c] = s2[c] = 0;
        }
        for (long j = 0; j < pixels; j++) {
            const float *row = xi + j * channels, *grow = gyi + j * channels;
            float* out = gxi + j * channels;
            const uint32_t index = at + j * channels;
            if (!silu) {
#pragma omp simd
                for (long c = 0; c < size; c++) {
                    const float hat = (row[c] - mean[c]) * inverse[c];
                    out[c] = grow[c];
                    s1[c] += grow[c];
                    s2[c] += grow[c] * hat;
                    hats[c] += hat;
                }
            } else if (!dropout.threshold) {
#pragma omp simd
                for (long c = 0; c < size; c++) {
                    const float hat = (row[c] - mean[c]) * inverse[c], g = grow[c] * silu_slope(hat * w[c] + b[c]);
                    out[c] = g;
                    s1[c] += g;
                    s2[c] += g * hat;
                    hats[c] += hat;
                }
            } else {
#pragma omp simd
                for (long c = 0; c < size; c++) {
                    const float hat = (row[c] - mean[c]) * inverse[c];
                    const float g = grow[c] * silu_slope(hat * w[c] + b[c]) *
                                    keep(index + c, dropout.seed, dropout.threshold, dropout.factor);
                    out[c] = g;
                    s1[c] += g;
                    s2[c] += g * hat;
                    hats[c] += hat;
                }
            }
        }
        for (long g = 0; g < size; g += width) {
            float total = 0, weighted = 0;
            for (long c = g; c < g + width; c++) {
                total += s1[c] * w[c];
                weighted += s2[c] * w[c];
            }
            total /= width * pixels;
            weighted /= width * pixels;
            for (long c = g; c < g + width; c++) {
                pa[c] = inverse[c] * w[c];
                qa[c] = -inverse[c] * inverse[c] * weighted;
                ra[c] = -inverse[c] * total - qa[c] * mean[c];
                if (gshift) gshift[at_channel + c] = inverse[c] * (w[c] * s1[c] - pixels * total - hats[c] * weighted);
            }
        }
        for (long j = 0; j < pixels; j++) {
            const float* row = xi + j * channels;
            float* out = gxi + j * channels;
#pragma omp simd
            for (long c = 0; c < size; c++) out[c] = pa[c] * out[c] + qa[c] * row[c] + ra[c];
        }
    });
    for (long c = 0; c < channels; c++) gbias[c] = gweight[c] = 0;
    for (long i = 0; i < n; i++)
        for (long c = 0; c < channels; c++) {
            gbias[c] += sums[i * channels + c];
            gweight[c] += sums[(n + i) * channels + c];
        }
}

// y (pixels, ca + cb): both rows one after the other.
void ddpm_concat(const float* a, const float* b, float* y, long pixels, long ca, long cb) {
#pragma omp parallel for if (pixels * (ca + cb) >= kSerial)
    for (long j = 0; j < pixels; j++) {
        std::copy_n(a + j * ca, ca, y + j * (ca + cb));
        std::copy_n(b + j * cb, cb, y + j * (ca + cb) + ca);
    }
}

void ddpm_concat_backward(const float* gy, float* ga, float* gb, long pixels, long ca, long cb) {
#pragma omp parallel for if (pixels * (ca + cb) >= kSerial)
    for (long j = 0; j < pixels; j++) {
        std::copy_n(gy + j * (ca + cb), ca, ga + j * ca);
        std::copy_n(gy + j * (ca + cb) + ca, cb, gb + j * cb);
    }
}

// y (rows, 2, width, 2, channels) repeats x (rows, width, channels); rows = n height.
void ddpm_upsample(const float* x, float* y, long rows, long width, long channels) {
#pragma omp parallel for if (rows * width * channels >= kSerial)
    for (long r = 0; r < rows; r++)
        for (long k = 0; k < 2 * width; k++)
            for (long twice = 0; twice < 2; twice++)
                std::copy_n(x + (r * width + k / 2) * channels, channels, y + ((2 * r + twice) * 2 * width + k) * channels);
}

void ddpm_upsample_backward(const float* gy, float* gx, long rows, long width, long channels) {
#pragma omp parallel for if (rows * width * channels >= kSerial)
    for (long r = 0; r < rows; r++)
        for (long k = 0; k < width; k++) {
            const float *top = gy + (4 * r * width + 2 * k) * channels, *bottom = top + 2 * width * channels;
            float* out = gx + (r * width + k) * channels;
#pragma omp simd
            for (long c = 0; c < channels; c++) out[c] = top[c] + top[channels + c] + bottom[c] + bottom[channels + c];
        }
}

// One step of Adam on `count` tensors in place, with the moments m, v and the average (null for none) as flat arrays in
// the same order. The gradients are first scaled to a global norm of at most max_norm (0: never). Returns the norm.
float ddpm_adam(long count, float* const* params, const float* const* grads, const long* sizes, float* m, float* v, float* average,
                float lr, float beta1, float beta2, float eps, float correction1, float correction2, float max_norm, float decay) {
    struct Piece {
        float* param;
        const float* grad;
        long at, size;
    };
    constexpr long kPiece = 1 << 15;
    std::vector<Piece> pieces;
    long at = 0;
    for (long i = 0; i < count; i++)
        for (long j = 0; j < sizes[i]; j += kPiece) {
            const long size = std::min(kPiece, sizes[i] - j);
            pieces.push_back({params[i] + j, grads[i] + j, at, size});
            at += size;
        }
    const long total = pieces.size();
    double square = 0;
#pragma omp parallel for schedule(dynamic, 4) reduction(+ : square)
    for (long i = 0; i < total; i++) {
        const float* g = pieces[i].grad;
        float part = 0;
#pragma omp simd reduction(+ : part)
        for (long j = 0; j < pieces[i].size; j++) part += g[j] * g[j];
        square += part;
    }
    const float norm = std::sqrt(square);
    const float scale = max_norm > 0 ? std::min(1.f, max_norm / (norm + 1e-6f)) : 1.f;
    const float rate = lr / correction1, root = 1.f / std::sqrt(correction2);
#pragma omp parallel for schedule(dynamic, 4)
    for (long i = 0; i < total; i++) {
        const Piece piece = pieces[i];
        float *p = piece.param, *mi = m + piece.at, *vi = v + piece.at, *e = average ? average + piece.at : nullptr;
        const float* g = piece.grad;
#pragma omp simd
        for (long j = 0; j < piece.size; j++) {
            const float gj = g[j] * scale;
            mi[j] += (gj - mi[j]) * (1.f - beta1);
            vi[j] = beta2 * vi[j] + (1.f - beta2) * gj * gj;
            // With -ffast-math and without AVX-512 the root of a subnormal number is NaN.
            p[j] -= rate * mi[j] / (std::sqrt(std::max(vi[j], FLT_MIN)) * root + eps);
        }
        if (e) {
#pragma omp simd
            for (long j = 0; j < piece.size; j++) e[j] += (p[j] - e[j]) * (1.f - decay);
        }
    }
    return norm;
}

}  // extern "C"
