#include "siphash.h"

static uint64_t le_load(const uint8_t *p, size_t length)
{
	uint64_t value = 0;

	for (size_t i = 0; i < length; i++)
		value |= (uint64_t)p[i] << (8 * i);
	return value;
}

static uint64_t rotate_left(uint64_t value, int bits)
{
	return value << bits | value >> (64 - bits);
}

static void rounds(uint64_t v[static 4], int count)
{
	while (count-- > 0) {
		v[0] += v[1];
		v[1] = rotate_left(v[1], 13) ^ v[0];
		v[0] = rotate_left(v[0], 32);
		v[2] += v[3];
		v[3] = rotate_left(v[3], 16) ^ v[2];
		v[0] += v[3];
		v[3] = rotate_left(v[3], 21) ^ v[0];
		v[2] += v[1];
		v[1] = rotate_left(v[1], 17) ^ v[2];
		v[2] = rotate_left(v[2], 32);
	}
}

static void absorb(uint64_t v[static 4], uint64_t word)
{
	v[3] ^= word;
	rounds(v, 2);
	v[0] ^= word;
}

uint64_t siphash(const uint8_t key[static 16], const void *data, size_t length)
{
	const uint8_t *p = data;
	uint64_t k0 = le_load(key, 8), k1 = le_load(key + 8, 8);
	uint64_t v[4] = {
		k0 ^ 0x736f6d6570736575U, /* "somepseudorandomlygeneratedbytes" */
		k1 ^ 0x646f72616e646f6dU,
		k0 ^ 0x6c7967656e657261U,
		k1 ^ 0x7465646279746573U,
	};
	size_t left = length;

	for (; left >= 8; left -= 8, p += 8)
		absorb(v, le_load(p, 8));
	absorb(v, (uint64_t)length << 56 | le_load(p, left));
	v[2] ^= 0xff;
	rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
