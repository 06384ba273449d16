// Runs CUDA kernels on the CPU, to test their indices and sums where there is no GPU. Include it before the kernels.
//
// The threads of a block are fibers on one thread of the operating system. They run one after the other, each up to its
// next __syncthreads, forwards or backwards: a kernel in which a barrier is missing gives different numbers in the two
// orders. A barrier that some threads of a block do not reach is reported.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <functional>
#include <memory>
#include <setjmp.h>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static // the blocks run one after the other

struct dim3 {
    unsigned x, y, z;
};

static dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

enum Outcome { FINE = 0, DIVERGED = 1 };

constexpr size_t STACK = 256 * 1024; // [bytes]

struct Fiber {
    std::unique_ptr<char[]> stack{new char[STACK]}; // not filled, unlike a vector: most of it is never touched
    jmp_buf place;                                  // where it goes on
    bool started = false;
    int waits_at = 0; // line of the barrier; 0 when the thread has ended
    dim3 index;
};

static std::vector<Fiber> fibers; // kept from launch to launch
static Fiber *current;
static jmp_buf scheduler;
static std::function<void()> body;

// Contexts begin a fiber; from then on jumps, which ask nothing of the system, change from one to the other.
static void yield(int line)
{
    current->waits_at = line;
    if (_setjmp(current->place) == 0)
        _longjmp(scheduler, 1);
}

static void live()
{
    while (true) {
        body();
        yield(0);
    }
}

[[maybe_unused]] static void wait(int line)
{
    yield(line);
}

static void resume(Fiber &fiber)
{
    current = &fiber;
    threadIdx = fiber.index;
    if (_setjmp(scheduler) != 0)
        return;
    if (fiber.started)
        _longjmp(fiber.place, 1);
    fiber.started = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber.stack.get();
    context.uc_stack.ss_size = STACK;
    context.uc_link = nullptr;
    makecontext(&context, live, 0);
    setcontext(&context);
}

// Run the threads of one block to their ends.
static Outcome run_block(size_t count, bool backwards)
{
    do {
        for (size_t k = 0; k < count; ++k)
            resume(fibers[backwards ? count - 1 - k : k]);
        for (size_t k = 0; k < count; ++k)
            if (fibers[k].waits_at != fibers[0].waits_at)
                return DIVERGED;
    } while (fibers[0].waits_at != 0);
    return FINE;
}

static Outcome run_grid(dim3 grid, dim3 threads, bool backwards)
{
    const size_t count = threads.x * threads.y * threads.z;
    if (fibers.size() < count)
        fibers = std::vector<Fiber>(count);
    gridDim = grid;
    blockDim = threads;
    for (size_t k = 0; k < count; ++k) {
        const unsigned x = k % threads.x, y = k / threads.x % threads.y, z = k / threads.x / threads.y;
        fibers[k].index = dim3{x, y, z};
    }
    for (unsigned z = 0; z < grid.z; ++z)
        for (unsigned y = 0; y < grid.y; ++y)
            for (unsigned x = 0; x < grid.x; ++x) {
                blockIdx = dim3{x, y, z};
                if (run_block(count, backwards) != FINE) {
                    fibers.clear(); // some of them are in the middle of the kernel
                    return DIVERGED;
                }
            }
    return FINE;
}

template <class... Arguments, size_t... K>
Outcome launch(void (*kernel)(Arguments...), dim3 grid, dim3 threads, bool backwards, void **arguments,
               std::index_sequence<K...>)
{
    body = [=] { kernel(*static_cast<std::remove_reference_t<Arguments> *>(arguments[K])...); };
    return run_grid(grid, threads, backwards);
}

template <class... Arguments>
Outcome launch(void (*kernel)(Arguments...), dim3 grid, dim3 threads, bool backwards, void **arguments)
{
    return launch(kernel, grid, threads, backwards, arguments, std::index_sequence_for<Arguments...>());
}

} // namespace emulator

#define __syncthreads() emulator::wait(__LINE__)

// Defines emulate_NAME(grid, threads, backwards, arguments), where the arguments are given by their addresses.
#define EMULATE(name)                                                                                                \
    extern "C" int emulate_##name(const unsigned *grid, const unsigned *threads, int backwards, void **arguments)      \
    {                                                                                                                  \
        return emulator::launch(name, dim3{grid[0], grid[1], grid[2]}, dim3{threads[0], threads[1], threads[2]},       \
                                backwards != 0, arguments);                                                            \
    }
