/*
 * The limit of open files. Every flow of dec needs a descriptor; COMMAND may not expect a limit
 * other than that of the shell (select(2) takes 1024).
 */
#ifndef DESCRIPTORS_H
#define DESCRIPTORS_H

/* Raises the soft limit to the hard one. */
void descriptors_raise(void);

/* Puts it back to what it was, if it was raised. */
void descriptors_restore(void);

#endif
