/*
 * Runs a fuzz target over the files that are given as arguments, without libFuzzer. Their names go
 * to standard error: the last one is of the case that fails. Each is read into memory of exactly
 * its size, so that ASan sees a read beyond it.
 */
#include "fuzz.h"

static void replay(const char *path)
{
	FILE *file = fopen(path, "rb");
	uint8_t *bytes = NULL;
	long size = -1;

	if (file && fseek(file, 0, SEEK_END) == 0)
		size = ftell(file);
	if (size >= 0)
		bytes = malloc((size_t)size);
	if (size < 0 || (!bytes && size > 0) || fseek(file, 0, SEEK_SET) != 0 ||
		fread(bytes, 1, (size_t)size, file) != (size_t)size) {
		perror(path);
		exit(EXIT_FAILURE);
	}
	fclose(file);
	(void)LLVMFuzzerTestOneInput(bytes, (size_t)size);
	free(bytes);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		fprintf(stderr, "%s\n", argv[i]);
		replay(argv[i]);
	}
	return EXIT_SUCCESS;
}
