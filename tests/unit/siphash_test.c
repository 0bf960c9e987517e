#include "siphash.h"

#include "check.h"

/*
 * The vectors published with SipHash-2-4: key 00 01 .. 0f, and for each length n the input
 * 00 01 .. n-1. That of 15 bytes is also worked out in appendix A of the paper.
 */
static const uint64_t published[] = {
	0x726fdb47dd0e0e31U,
	0x74f839c593dc67fdU,
	0x0d6c8009d9a94f5aU,
	0x85676696d7fb7e2dU,
	0xcf2794e0277187b7U,
	0x18765564cd99a68dU,
	0xcbc9466e58fee3ceU,
	0xab0200f58b01d137U,
	0x93f5f5799a932462U,
	0x9e0082df0ba9e4b0U,
	0x7a5dbbc594ddb9f3U,
	0xf4b32f46226bada7U,
	0x751e8fbc860ee5fbU,
	0x14ea5627c0843d90U,
	0xf723ca908e7af2eeU,
	0xa129ca6149be45e5U,
	0x3f2acc7f57c29bdbU,
	0x699ae9f52cbe4794U,
	0x4bc1b3f0968dd39cU,
	0xbb6dc91da77961bdU,
	0xbed65cf21aa2ee98U,
	0xd0f2cbb02e3b67c7U,
	0x93536795e3a33e88U,
	0xa80c038ccd5ccec8U,
	0xb8ad50c6f649af94U,
	0xbce192de8a85b8eaU,
	0x17d835b85bbb15f3U,
	0x2f2e6163076bcfadU,
	0xde4daaaca71dc9a5U,
	0xa6a2506687956571U,
	0xad87a3535c49ef28U,
	0x32d892fad841c342U,
	0x7127512f72f27cceU,
	0xa7f32346f95978e3U,
	0x12e0b01abb051238U,
	0x15e034d40fa197aeU,
	0x314dffbe0815a3b4U,
	0x027990f029623981U,
	0xcadcd4e59ef40c4dU,
	0x9abfd8766a33735cU,
	0x0e3ea96b5304a7d0U,
	0xad0c42d6fc585992U,
	0x187306c89bc215a9U,
	0xd4a60abcf3792b95U,
	0xf935451de4f21df2U,
	0xa9538f0419755787U,
	0xdb9acddff56ca510U,
	0xd06c98cd5c0975ebU,
	0xe612a3cb9ecba951U,
	0xc766e62cfcadaf96U,
	0xee64435a9752fe72U,
	0xa192d576b245165aU,
	0x0a8787bf8ecb74b2U,
	0x81b3e73d20b49b6fU,
	0x7fa8220ba3b2eceaU,
	0x245731c13ca42499U,
	0xb78dbfaf3a8d83bdU,
	0xea1ad565322a1a0bU,
	0x60e61c23a3795013U,
	0x6606d7e446282b93U,
	0x6ca4ecb15c5f91e1U,
	0x9f626da15c9625f3U,
	0xe51b38608ef25f57U,
	0x958a324ceb064572U,
};

enum {
	VECTORS = sizeof(published) / sizeof(published[0]),
	PAPER_LENGTH = 15,
};

/* Key and input are the same series of bytes. */
static void count_up(uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)i;
}

static void paper_vector(void)
{
	uint8_t key[16], input[PAPER_LENGTH];

	count_up(key, sizeof(key));
	count_up(input, sizeof(input));
	CHECK_NUMBER(siphash(key, input, sizeof(input)), 0xa129ca6149be45e5U);
}

static void published_vectors(void)
{
	uint8_t key[16], input[VECTORS];

	count_up(key, sizeof(key));
	count_up(input, sizeof(input));
	for (size_t length = 0; length < VECTORS; length++)
		CHECK_NUMBER(siphash(key, input, length), published[length]);
}

static void unaligned_input(void)
{
	uint8_t key[16], input[VECTORS + 8];

	count_up(key, sizeof(key));
	for (size_t shift = 0; shift < 8; shift++) {
		count_up(input + shift, VECTORS);
		CHECK_NUMBER(siphash(key, input + shift, VECTORS - 1), published[VECTORS - 1]);
	}
}

/* On the heap, in just as many bytes, a sanitizer sees one that is read too many. */
static void only_the_input_is_read(void)
{
	uint8_t key[16], bytes[VECTORS];

	count_up(key, sizeof(key));
	count_up(bytes, sizeof(bytes));
	for (size_t length = 1; length < VECTORS; length++) {
		uint8_t *input = malloc(length);

		if (!CHECK(input))
			return;
		memcpy(input, bytes, length);
		CHECK_NUMBER(siphash(key, input, length), published[length]);
		free(input);
	}
}

static void no_input(void)
{
	uint8_t key[16];

	count_up(key, sizeof(key));
	CHECK_NUMBER(siphash(key, NULL, 0), published[0]);
}

static void every_bit_of_the_key_counts(void)
{
	uint8_t key[16], input[VECTORS];

	count_up(key, sizeof(key));
	count_up(input, sizeof(input));
	for (size_t bit = 0; bit < 8 * sizeof(key); bit++) {
		key[bit / 8] ^= (uint8_t)(1 << bit % 8);
		CHECK(siphash(key, input, PAPER_LENGTH) != published[PAPER_LENGTH]);
		key[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

static void every_bit_of_the_input_counts(void)
{
	uint8_t key[16], input[VECTORS];

	count_up(key, sizeof(key));
	count_up(input, sizeof(input));
	for (size_t bit = 0; bit < (size_t)8 * PAPER_LENGTH; bit++) {
		input[bit / 8] ^= (uint8_t)(1 << bit % 8);
		CHECK(siphash(key, input, PAPER_LENGTH) != published[PAPER_LENGTH]);
		input[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

int main(void)
{
	test("the hash of the paper's example is the paper's", paper_vector);
	test("inputs of 0 to 63 bytes have the published hashes", published_vectors);
	test("where the input lies in memory does not matter", unaligned_input);
	test("no byte behind the input is read", only_the_input_is_read);
	test("an input of no bytes needs no memory", no_input);
	test("every bit of the key changes the hash", every_bit_of_the_key_counts);
	test("every bit of the input changes the hash", every_bit_of_the_input_counts);
	return tests_end();
}
