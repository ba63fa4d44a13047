
#include "../../sidecar/listing.c"
#include "tap.h"


static int parse(const char *xml);
static void test_page(void);
static void test_entities(void);
static void test_bad(void);


static char       text[4096];
static listing_t  list;


int
main(void)
{
    test_page();
    test_entities();
    test_bad();

    return done();
}


static void
test_page(void)
{
    ok(parse("<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"http://s3\">"
             "<Name>b</Name><IsTruncated>true</IsTruncated>"
             "<Contents>\n <Key>a/1.fit</Key>"
             "<LastModified>2026-11-20T09:30:00.000Z</LastModified>"
             "<ETag>&quot;abc&quot;</ETag><Size>12</Size>"
             "<Owner><ID>x</ID></Owner></Contents>"
             "<Contents><Size>0</Size><Key>b</Key><ETag>\"d\"</ETag></Contents>"
             "<NextContinuationToken>t&amp;k==</NextContinuationToken>"
             "</ListBucketResult>") == 0, "a page");
    ok(list.n == 2, "two objects");
    is_str(list.objects[0].key, "a/1.fit", "key");
    is_str(list.objects[0].etag, "abc", "etag");
    is_str(list.objects[0].modified, "2026-11-20T09:30:00.000Z", "time");
    ok(list.objects[0].size == 12, "size");
    is_str(list.objects[1].key, "b", "any order");
    is_str(list.objects[1].etag, "d", "etag as it is");
    ok(list.objects[1].size == 0 && *list.objects[1].modified == '\0',
       "no time");
    is_str(list.token, "t&k==", "token");

    ok(parse("<ListBucketResult><IsTruncated>false</IsTruncated>"
             "<NextContinuationToken>x</NextContinuationToken>"
             "</ListBucketResult>") == 0 && list.n == 0
       && list.token[0] == '\0', "the last page");
    ok(parse("<ListBucketResult/>") == 0 && list.n == 0, "an empty bucket");
}


static void
test_entities(void)
{
    ok(parse("<ListBucketResult><Contents><Key>&lt;a&gt;&#38;&#x41;&apos;"
             "\xeb\x9f\xac</Key></Contents></ListBucketResult>") == 0
       && list.n == 1, "entities");
    is_str(list.objects[0].key, "<a>&A'\xeb\x9f\xac", "decoded");
    ok(list.objects[0].size == -1, "no size");

    ok(parse("<ListBucketResult><Contents><Key>&no;</Key></Contents>"
             "<Contents><Key>&#0;</Key></Contents>"
             "<Contents><Key>&#999999;</Key></Contents>"
             "<Contents><Key>&amp</Key></Contents>"
             "<Contents><Key></Key></Contents>"
             "<Contents><Size>1</Size></Contents>"
             "<Contents><Key>k</Key><Size>x</Size></Contents>"
             "</ListBucketResult>") == 0 && list.n == 1,
       "keys which are none are left out");
    ok(list.objects[0].size == -1, "nor is a size which is none");
}


static void
test_bad(void)
{
    ok(parse("") == -1, "nothing");
    ok(parse("<Error><Code>AccessDenied</Code></Error>") == -1, "an error");
    ok(parse("<html>") == -1, "something else");
    ok(parse("<ListBucketResult><IsTruncated>true</IsTruncated>"
             "</ListBucketResult>") == -1, "more, but not how");
    ok(parse("<ListBucketResult><Contents><Key>k</Key>") == 0 && list.n == 0,
       "cut off");
    ok(parse("ListBucketResult><Contents><Key>k</Contents></Key></Contents>")
       == 0, "crossed");
}


/* from memory that ends where the text does */

static int
parse(const char *xml)
{
    size_t  n;

    n = strlen(xml);
    memcpy(text + sizeof(text) - n, xml, n);

    return listing_parse(&list, text + sizeof(text) - n, n);
}
