/* Controls of the fake CUDA driver: plain C, so that ctypes can call them, too.
 *
 * The fake does what a program can observe of the real driver, on threads of the host. Device
 * memory lies at addresses that host code cannot dereference; its bytes are in a shadow of that
 * range. What a program does wrong without being told (it uses freed memory, or changes the source
 * of a pending copy) is recorded as a violation; a test ends by asking for their number.
 *
 * Until the first reset there is one device of 1 GiB, and operations start without delay. */
#pragma once

#include <stddef.h>

#define FAKE_CUDA_EXPORT __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

enum {
    fake_cuda_poison_fresh = 0xCD,   /* device memory that nobody has written yet */
    fake_cuda_poison_freed = 0xDD,   /* device memory that was freed */
    fake_cuda_poison_pending = 0xDB, /* host memory that a pending copy is going to write */
};

struct fake_cuda_stats_t {
    /* what is there now */
    unsigned long long contexts_retained;
    unsigned long long streams; /* without default streams */
    unsigned long long events;
    unsigned long long modules;
    unsigned long long allocations;
    unsigned long long allocated_nbytes;
    unsigned long long registrations;
    unsigned long long registered_nbytes;
    /* what was asked for since the last reset */
    unsigned long long copies_h2d;
    unsigned long long copies_d2h;
    unsigned long long copies_d2d;
    unsigned long long copies_2d;       /* counted with their direction as well */
    unsigned long long copies_pageable; /* likewise */
    unsigned long long kernels;         /* launches */
    unsigned long long nbytes_h2d;
    unsigned long long nbytes_d2h;
    unsigned long long nbytes_d2d;
};

/* Waits for pending work, then forgets everything: handles, memory, counts, failures, violations.
 * Every operation of a stream then starts after a random delay of at most `max_delay_us`. */
FAKE_CUDA_EXPORT void fake_cuda_reset(int devices, size_t nbytes_per_device, unsigned max_delay_us,
                                      unsigned seed);

/* Makes the nth call of a function of the driver from now on (1 is the next one) return `result`
 * and do nothing; with `sticky`, all later calls as well. "*" stands for any function. */
FAKE_CUDA_EXPORT void fake_cuda_fail(const char *function, unsigned nth, int result, int sticky);
FAKE_CUDA_EXPORT void fake_cuda_clear_failures(void);
/* Calls of a function of the driver ("*": of all) since the last reset, also those that were made
 * to fail. */
FAKE_CUDA_EXPORT int fake_cuda_call_count(const char *function);

/* Their number; the text of the first one, cut to `capacity` with its final 0. */
FAKE_CUDA_EXPORT unsigned fake_cuda_violations(char *first, size_t capacity);
FAKE_CUDA_EXPORT void fake_cuda_stats(struct fake_cuda_stats_t *out);

/* The bytes behind a device address, and the reverse. NULL and 0 where there is no device memory.
 */
FAKE_CUDA_EXPORT void *fake_cuda_shadow(unsigned long long device_address);
FAKE_CUDA_EXPORT unsigned long long fake_cuda_device_address(void *shadow);

/* A kernel of the program's own that is still pending: fills device memory in the order of
 * `stream` (a handle; 0, 1 and 2 are the default streams of the device numbered `device`). */
FAKE_CUDA_EXPORT void fake_cuda_fill_later(int device, unsigned long long stream,
                                           unsigned long long address, int value, size_t nbytes,
                                           unsigned delay_us);

/* From begin to end, `stream` (named as above) of that device is captured into a graph, in the mode
 * that is the default: what is put on it is not modelled, but every call of another thread that
 * might disturb a capture is refused and a violation, unless that thread has relaxed its mode. */
FAKE_CUDA_EXPORT void fake_cuda_begin_capture(int device, unsigned long long stream);
FAKE_CUDA_EXPORT void fake_cuda_end_capture(void);

/* From when hold returns until resume, no operation of any stream starts; with hold_stream, none
 * that is put on that stream (named as above) in the meantime. Calls that wait for one block.
 * Resetting resumes. */
FAKE_CUDA_EXPORT void fake_cuda_hold(void);
FAKE_CUDA_EXPORT void fake_cuda_hold_stream(int device, unsigned long long stream);
FAKE_CUDA_EXPORT void fake_cuda_resume(void);

#ifdef __cplusplus
}
#endif
