
/*
 * The addresses an operator writes.  Pure: no I/O, no globals; nothing here
 * resolves a name.
 */


#ifndef _URL_H_INCLUDED_
#define _URL_H_INCLUDED_


#include <stddef.h>


#define URL_MAX  2048


/*
 * 1 if a host can only be reached from inside: a path or an abstract socket,
 * "localhost", a name under .localhost, .internal or .flycast, an address of
 * 127/8, 10/8, 172.16/12, 192.168/16, 169.254/16, 100.64/10, ::1, fc00::/7 or
 * fe80::/10.  An IPv6 address may be in brackets.
 */

int url_private_host(const char *host, size_t n);


/*
 * DATABASE_URL as libpq wants it, into dst.
 *
 * Accepts postgres:// and postgresql://, each also with "+driver", and nothing
 * that libpq would read in another way; turns asyncpg's ssl= into sslmode= and
 * drops the arguments that only drivers of Python know.  If verify, and one of
 * the hosts is not private, an sslmode that does not check the server's name
 * becomes verify-full, with rootcert unless the URL names its own.  A
 * connect_timeout, an application_name and a tcp_user_timeout are added if
 * there is none.
 *
 * Returns NULL, or what would be right, without a part of src in it: src has
 * a password.
 */

const char *url_database(char *dst, size_t size, const char *src, int verify,
    const char *rootcert) __attribute__((warn_unused_result));


#endif /* _URL_H_INCLUDED_ */
