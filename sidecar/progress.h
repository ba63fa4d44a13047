
/*
 * How far a long command is: a bar on a terminal, else a line now and then.
 * It goes to standard error, so that standard output is for a program to read.
 */


#ifndef _PROGRESS_H_INCLUDED_
#define _PROGRESS_H_INCLUDED_


typedef struct {
    const char  *what;
    long long    done;
    long long    total;         /* 0: not known */
    long long    shown;         /* milliseconds; 0: not yet */
    int          terminal;
} progress_t;


void progress_begin(progress_t *p, const char *what, long long total);
void progress_step(progress_t *p, long long n);
void progress_end(progress_t *p);


#endif /* _PROGRESS_H_INCLUDED_ */
