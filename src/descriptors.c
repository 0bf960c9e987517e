#include "descriptors.h"

#include <stdbool.h>
#include <sys/resource.h>

static struct rlimit original;
static bool known;

void descriptors_raise(void)
{
	struct rlimit raised;

	known = known || getrlimit(RLIMIT_NOFILE, &original) == 0;
	raised = (struct rlimit){.rlim_cur = original.rlim_max, .rlim_max = original.rlim_max};
	if (known)
		(void)setrlimit(RLIMIT_NOFILE, &raised);
}

void descriptors_restore(void)
{
	if (known)
		(void)setrlimit(RLIMIT_NOFILE, &original);
}
