/*
 * SipHash-2-4 (Aumasson and Bernstein, 2012): a hash that who does not know the key cannot steer.
 */
#ifndef SIPHASH_H
#define SIPHASH_H

#include <stddef.h>
#include <stdint.h>

/* Returns the hash of `length` bytes under the 16-byte key. */
uint64_t siphash(const uint8_t key[static 16], const void *data, size_t length);

#endif
