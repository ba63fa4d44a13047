#!/usr/bin/perl

# What exists is documented, and what is documented exists: directives and
# their parameters, variables, environment.

use strict;
use warnings;

use FindBin;

use Test::More;

my $root = "$FindBin::Bin/..";
my $readme = slurp("$root/README.md");
my $example = slurp("$root/conf/env.example");
my $conf = join('', map { slurp($_) } glob("$root/conf/*.conf"));
my $scripts = join('', map { slurp($_) } glob("$root/conf/*.sh"));
my $module = join('', map { slurp($_) }
                      glob("$root/ngx_runcoach_module/*.c"));
my $sidecar = join('', map { slurp($_) } glob("$root/sidecar/*.c"));

###############################################################################

# directives: { ngx_string("runcoach_x"), of a command table

my %directives;

for my $file (glob("$root/ngx_runcoach_module/*.c")) {
    my $text = slurp($file);

    while ($text =~ /static ngx_command_t .*? = \{(.*?)^\};/gms) {
        my $table = $1;

        $directives{$1} = 1
            while $table =~ /ngx_string\("(runcoach_\w+)"\),\s+NGX_/g;
    }
}

cmp_ok(scalar(keys %directives), '>=', 10, 'directives are found');

for my $name (sort keys %directives) {
    ok($readme =~ /^#+ *`?\Q$name\E\b|Syntax:.*\b\Q$name\E\b/m,
         "README: directive $name");
    ok($readme =~ /\b\Q$name\E\b(?!_)/, "README: $name, by its name");
}

# what metrics are called is of the same form

my %metrics;

for my $text ($module, $sidecar) {
    $metrics{$1} = 1 while $text =~ /"(runcoach_[a-z_]+_(?:total|seconds|info
                                     |open|connected|clients|depth|bytes))"/gx;
}

my %named = map { $_ => 1 } "$readme$conf" =~ /(?<![\$\w])(runcoach_[a-z_]+)\b/g;

for my $name (sort keys %named) {
    next if $name =~ /^runcoach_(?:module|edge)$/;
    next if $metrics{$name};

    ok($directives{$name}, "$name is a directive") or
        diag('named in README.md or conf/');
}

# parameters: { "name", &... }, and those of the tables of the limit module

my %parameters;

for my $re (qr/\{ "([a-z_]+)", &/, qr/ngx_strncmp\([^;]*?"([a-z_]+)="/s) {
    $parameters{$1} = 1 while $module =~ /$re/g;
}

cmp_ok(scalar(keys %parameters), '>=', 15, 'parameters are found');

ok($readme =~ /\b$_=/, "README: parameter $_=") for sort keys %parameters;

# variables

my %variables;

$variables{$1} = 1
    while $module =~ /\{ ngx_string\("(runcoach_\w+)"\), (?:NULL|RUNCOACH_)/g;

cmp_ok(scalar(keys %variables), '>=', 15, 'variables are found');

ok($readme =~ /\$\Q$_\E\b(?!_)/, "README: variable \$$_")
    for sort keys %variables;

%named = map { $_ => 1 } "$readme$conf" =~ /\$(runcoach_[a-z_]+)/g;

ok($variables{$_}, "\$$_ is a variable")
    for sort grep { !/^runcoach_claim_/ } keys %named;

# environment: env:A|B of conf/, ${A:-...} of the scripts, the sidecar's table

my %env;

$env{$_} = 1 for map { split(/\|/) } $conf =~ /env:([A-Z0-9_|]+)/g;
$env{$1} = 1 while $scripts =~ /\$\{([A-Z][A-Z0-9_]+):?[-+=]/g;
$env{$1} = 1 while $scripts =~ /\bgiven ([A-Z][A-Z0-9_ ]+)/g;
%env = map { $_ => 1 } map { split(/ /) } keys %env;

while ($sidecar =~ /\{ "([A-Z][A-Z0-9_]+)", \{ (.*?) \}/g) {
    my ($name, $aliases) = ($1, $2);

    $env{$_} = 1 for $name, $aliases =~ /"(\w+)"/g;
}

# what the scripts say to each other, and what others have said before us

my %internal = map { $_ => 1 } qw/ AS BACKEND_SOCKET SUDO_USER RUNCOACH_BUILD
                                   DEBIAN_FRONTEND PATH HOME TMPDIR /;

cmp_ok(scalar(keys %env), '>=', 25, 'environment is found');

# what only building reads

my %build = map { $_ => 1 } qw/ NGINX_SRC /;

for my $name (sort grep { !$internal{$_} } keys %env) {
    ok($example =~ /\b\Q$name\E\b/, "env.example: $name")
        unless $build{$name};
    ok($readme =~ /\b\Q$name\E\b/, "README: environment $name");
}

# each line of env.example is a comment or a variable somebody reads

for my $line (split(/\n/, $example)) {
    my ($name) = $line =~ /^#? ?([A-Z][A-Z0-9_]+)=/ or next;

    ok($env{$name} || $line =~ /not used yet/,
       "env.example: $name is read by something");
}

# what an operator may have set for the application already

for my $name (qw/ PORT BACKEND_URL REDIS_URL DATABASE_URL
                  CLERK_PUBLISHABLE_KEY CLERK_ISSUER CLERK_JWKS_URL
                  CLERK_JWT_KEY CLERK_AUTHORIZED_PARTIES
                  CLERK_WEBHOOK_SECRET CLERK_WEBHOOK_SIGNING_SECRET
                  R2_ACCOUNT_ID R2_ACCESS_KEY R2_ACCESS_KEY_ID R2_SECRET_KEY
                  R2_SECRET_ACCESS_KEY R2_BUCKET_NAME R2_ENDPOINT_URL
                  CORS_ORIGINS MAX_FILE_SIZE RATE_LIMIT_REQUESTS
                  RATE_LIMIT_WINDOW RATE_LIMIT_BURST RATE_LIMIT_PER_ADDRESS
                  RUNCOACH_HOME /)
{
    ok($env{$name}, "$name is read by something");
}

# commands, and files the README sends its reader to

for my $target ((slurp("$root/Makefile") // '') =~ /^([a-z]+):.*##/mg) {
    ok($readme =~ /\bmake $target\b|`$target`/, "README: make $target")
        if $target =~ /^(?:run|test|bench|check|clean|help)$/;
}

while ($readme =~ /\]\((?!https?:|#)([^)#]+)/g) {
    ok(-e "$root/$1", "README: $1 is there");
}

ok($readme =~ /runcoach-sidecar [\w| ]*\b$_\b/,
     "README: runcoach-sidecar $_")
    for qw/ serve work migrate /;

ok($readme =~ /^\| `$_/m, "README: runcoach-sidecar $_")
    for qw/ doctor inventory reconcile replay check /;

# metrics: what is told, and what the README has in its tables

cmp_ok(scalar(keys %metrics), '>=', 30, 'metrics are found');
ok($readme =~ /^\|.*`$_`.*\|/m, "README: metric $_") for sort keys %metrics;

my %told = map { $_ => 1 }
               map { /`(runcoach_[a-z_]+)`/g }
               $readme =~ /^\| (`runcoach_[^|]*)/gm;

ok($metrics{$_}, "$_ is a metric") for sort keys %told;

done_testing();

###############################################################################

sub slurp
{
    my ($file) = @_;

    open(my $fh, '<:raw', $file) or return '';

    local $/;

    return scalar(<$fh>) // '';
}

###############################################################################
