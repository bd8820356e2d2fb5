#pragma once

// Feature maps are (n, h, w, channels), weights (co, ci, 3, 3); arithmetic is float32.

// Whether a convolution is one that this way computes, and sooner than directly.
bool winograd_pays(long n, long ci, long h, long w, long co, long kh, long kw, long stride, long top, long left, long bottom,
                   long right);

// The convolution of x (n, h, w, in), or, backward, the gradient by its inputs of x as that by its outputs; bias may be null.
void winograd_products(const float* x, const float* weight, const float* bias, float* y, long n, long in, long h, long w, long out,
                       bool backward);

// The gradients by the weights and by the bias (co).
void winograd_weights(const float* x, const float* gy, float* gweight, float* gbias, long n, long ci, long h, long w, long co);
