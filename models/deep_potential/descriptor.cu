// The descriptor D = A^T A_< of each atom from its matrix A, shape (4, channels), where A_< has the first `axis` columns,
// and its derivatives; ekfcore/models/deep_potential/_nodal_cupy.py launches these kernels.
//
// One block an atom, and functional where there are several, and one thread a number: the products are too small for a
// library, and each of its launches costs more than they do. REAL is the type of numbers.

#ifndef REAL
#define REAL double
#endif

#define WIDTH 128 // threads of a block

// Number `place` of left^T right_<.
__device__ REAL multiply(const REAL *left, const REAL *right, int place, int channels, int axis)
{
    const int i = place / axis, j = place % axis;
    REAL sum = 0;
    for (int row = 0; row < 4; ++row)
        sum += left[row * channels + i] * right[row * channels + j];
    return sum;
}

// Number `place`, as of A, of the gradient of the sum of Dbar, shape (channels, axis), times D.
__device__ REAL reverse(const REAL *Dbar, const REAL *A, int place, int channels, int axis)
{
    const int i = place % channels;
    const REAL *row = A + place - i;
    REAL sum = 0;
    for (int j = 0; j < axis; ++j)
        sum += Dbar[i * axis + j] * row[j];
    if (i < axis)
        for (int j = 0; j < channels; ++j)
            sum += Dbar[j * axis + i] * row[j];
    return sum;
}

// D, shape (atoms, channels, axis). Grid: atoms. Threads: WIDTH.
extern "C" __global__ void describe(const REAL *A, int channels, int axis, REAL *D)
{
    const size_t atom = blockIdx.x;
    A += atom * 4 * channels;
    for (int place = threadIdx.x; place < channels * axis; place += WIDTH)
        D[atom * channels * axis + place] = multiply(A, A, place, channels, axis);
}

// Ddot, shape (m, atoms, channels, axis), from Adot, shape (m, atoms, 4, channels). Grid: (atoms, m). Threads: WIDTH.
extern "C" __global__ void describe_tangent(const REAL *A, const REAL *Adot, int channels, int axis, REAL *Ddot)
{
    const size_t atom = blockIdx.x, which = blockIdx.y * (size_t)gridDim.x + atom;
    A += atom * 4 * channels;
    Adot += which * 4 * channels;
    for (int place = threadIdx.x; place < channels * axis; place += WIDTH)
        Ddot[which * channels * axis + place] =
            multiply(Adot, A, place, channels, axis) + multiply(A, Adot, place, channels, axis);
}

// Abar from Dbar. Grid: atoms. Threads: WIDTH.
extern "C" __global__ void describe_reverse(const REAL *Dbar, const REAL *A, int channels, int axis, REAL *Abar)
{
    const size_t atom = blockIdx.x;
    Dbar += atom * channels * axis;
    A += atom * 4 * channels;
    for (int place = threadIdx.x; place < 4 * channels; place += WIDTH)
        Abar[atom * 4 * channels + place] = reverse(Dbar, A, place, channels, axis);
}

// Abars, shape (m, atoms, 4, channels): gradient of Dbars times D plus Dbar times Ddot. Grid: (atoms, m). Threads: WIDTH.
extern "C" __global__ void describe_reverse_tangent(
    const REAL *Dbar, const REAL *A, const REAL *Dbars, const REAL *Adot, int channels, int axis, REAL *Abars)
{
    const size_t atom = blockIdx.x, which = blockIdx.y * (size_t)gridDim.x + atom;
    Dbar += atom * channels * axis;
    A += atom * 4 * channels;
    Dbars += which * channels * axis;
    Adot += which * 4 * channels;
    for (int place = threadIdx.x; place < 4 * channels; place += WIDTH)
        Abars[which * 4 * channels + place] =
            reverse(Dbars, A, place, channels, axis) + reverse(Dbar, Adot, place, channels, axis);
}
