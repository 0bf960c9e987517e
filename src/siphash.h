/*
 * SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012): without the key
 * nobody can find inputs that have the same hash. Pure.
 */
#ifndef SIPHASH_H
#define SIPHASH_H

#include <stddef.h>
#include <stdint.h>

/* Returns the hash of `length` bytes at `data`, which may be NULL if `length` is 0. */
uint64_t siphash(const uint8_t key[static 16], const void *data, size_t length);

#endif
