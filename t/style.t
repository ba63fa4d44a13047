#!/usr/bin/perl

# The style of nginx, as far as a program can judge it.

use strict;
use warnings;

use FindBin;

use File::Find;
use Test::More;

my $root = "$FindBin::Bin/..";
my @files;

find({ no_chdir => 1, wanted => sub {
    my $name = $File::Find::name =~ s{^\Q$root\E/}{}r;

    if (-d && $name =~ m{^(?:build|run|\.git)$|node_modules|/corpus$}) {
        $File::Find::prune = 1;
        return;
    }

    push @files, $name if -f;
} }, $root);

@files = sort @files;

###############################################################################

for my $file (@files) {
    my $text = slurp($file);
    my @faults;

    next if $file =~ m{\.fit$|^LICENSE$} || $text =~ /\0/;

    push @faults, text_faults($file, $text);

    if ($file =~ /\.[ch]$/) {
        push @faults, c_faults($file, $text);

    } elsif ($file =~ /\.(?:pl|pm|t)$/) {
        push @faults, 'no "use strict"' unless $text =~ /^use strict;$/m;
        push @faults, 'no "use warnings"' unless $text =~ /^use warnings;$/m;

    } elsif ($file =~ /\.sh$/) {
        push @faults, 'does not begin with #!/bin/sh'
            unless $text =~ /\A#!\/bin\/(?:ba)?sh\n/;
        push @faults, 'no "set -u"' unless $text =~ /^set -(?:eu|u)/m;
    }

    is(join('', map { "$file:$_\n" } @faults), '', $file);
}

done_testing();

###############################################################################

# what holds for every text: [line] fault

sub text_faults
{
    my ($file, $text) = @_;

    my @faults;
    my $n = 0;

    # a table, a route's body or a vector is not made better by breaking it

    my $wide = $file =~ /\.(?:md|conf|json|t|pl|pm|sh|example|sql)$
                         |Makefile|Dockerfile|^CHANGES$|^\.ci|^t\/unit\/
                         |^t\/fuzz\//x;

    for my $line (split(/^/, $text)) {
        $n++;

        push @faults, "$n: CR" if $line =~ /\r/;
        push @faults, "$n: trailing space" if $line =~ /[ \t]\r?\n\z/;
        push @faults, "$n: tab" if $line =~ /\t/ && $file !~ /Makefile$/;

        my $columns = () = $line =~ /[^\x80-\xbf\n]/g;

        push @faults, "$n: $columns columns" if $columns > 80 && !$wide;
    }

    push @faults, "$n: no line feed at the end"
        if length $text && $text !~ /\n\z/;
    push @faults, "$n: blank line at the end" if $text =~ /\n\n\z/;
    push @faults, 'conflict marker' if $text =~ /^(?:<<<<<<<|>>>>>>>) /m;

    return @faults;
}


sub c_faults
{
    my ($file, $text) = @_;

    my @faults;

    push @faults, '1: the first line is not blank' if $text !~ /\A\n[^\n]/;

    if ($file =~ /\.h$/ && $file !~ /tap\.h$/) {
        my $guard = uc($file =~ s{.*/}{}r =~ s/\W/_/gr) =~ s/^_//r;

        push @faults, "guard is not _${guard}_INCLUDED_"
            unless $text =~ /^\#ifndef\ _${guard}_INCLUDED_\n
                             \#define\ _${guard}_INCLUDED_\n/mx
                   && $text =~ /^#endif \/\* _${guard}_INCLUDED_ \*\/\n/m;
    }

    # strings and comments say what they like, at the same length

    my $code = $text;

    $code =~ s{("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|/\*.*?\*/)}
              {blank($1)}gse;

    my @lines = split(/\n/, $code, -1);
    my @raw = split(/\n/, $text, -1);

    for my $i (0 .. $#lines) {
        my $line = $lines[$i];
        my $n = $i + 1;
        my $before = $i ? $lines[$i - 1] : '';

        push @faults, "$n: // comment" if $line =~ m{//};
        push @faults, "$n: no space after the keyword"
            if $line =~ /\b(?:if|for|while|switch)\(/
               && $line !~ /#\s*(?:el)?if/;
        push @faults, "$n: space before ( of a call"
            if $line =~ /^\s.*\b(?!if|for|while|switch|return|sizeof|defined
                                  |void|int|else|case|long|unsigned|char
                                  |const|double|do|goto)
                          [a-z_][a-z0-9_]*\ \((?!\*)/x
               && $line !~ /^\s*(?:static\s|typedef\s|extern\s|\#|\\|\})
                            |\bchar\ \(|_t\ \(|\ \\$|\)\ \(/x;
        push @faults, "$n: no blank line before } else"
            if $line =~ /^\s*\} else\b/ && $before !~ /^\s*$/;
        push @faults, "$n: } and else on two lines"
            if $line =~ /^\s*else\b/ && $before =~ /^\s*\}\s*$/;
        push @faults, "$n: one space after #define NAME"
            if $line =~ /^#define \w+(?:\([^)]*\))? [^\s\\]/;
        push @faults, "$n: return with parentheses"
            if $line =~ /\breturn ?\([^()]*\);$/;
        push @faults, "$n: indentation is not a multiple of 4"
            if $line =~ /^( +)(?:if|for|while|switch|return|break|continue)\b/
               && length($1) % 4;
        push @faults, "$n: pointer without NULL"
            if $line =~ /\bif \(!?(?:p|reply|res|ctx|r->\w*ptr|json|buf)\)/;

        # a condition that wraps has its brace alone

        if ($line =~ /^(\s*)(?:\} else )?(?:if|for|while|switch) \(/) {
            my $depth = () = $line =~ /\(/g;
            my $closed = () = $line =~ /\)/g;

            if ($depth > $closed) {
                my $k = $i;

                while ($depth > $closed && $k < $#lines) {
                    $k++;
                    $depth += () = $lines[$k] =~ /\(/g;
                    $closed += () = $lines[$k] =~ /\)/g;
                }

                push @faults, ($k + 1) . ': { after a condition that wraps'
                    if $lines[$k] =~ /\)\s*\{$/;
            }
        }
    }

    push @faults, function_faults(\@lines, $code) if $file =~ /\.c$/;

    return @faults;
}


# types on a line of their own, two blank lines in between, prototypes

sub function_faults
{
    my ($lines, $code) = @_;

    my @faults;

    for my $i (1 .. $#$lines) {
        my $line = $lines->[$i];
        my $n = $i + 1;

        # "{" in column 0 opens a body, after the list of parameters

        if ($line =~ /^\{$/ && $lines->[$i - 1] =~ /\)$/) {
            my $k = $i - 1;

            $k-- while $k > 0 && $lines->[$k] !~ /^\w/;

            my ($name) = $lines->[$k] =~ /^(\w+)\(/;

            if (!defined $name) {
                push @faults, ($k + 1) . ': a function begins with its name';
                next;
            }

            my $type = $lines->[$k - 1];

            push @faults, "$k: the type is on the line above the name"
                unless $type =~ /^(?:static |const |unsigned |struct )*
                                  \w+(?:\s\w+)*(?:\s\*+(?:const\s)?)?\s*$/x;

            # a comment that belongs to it may come in between

            my $top = $k - 2;

            $top-- while $top >= 0 && $lines->[$top] =~ /^\s*\x01|^\s*$/;

            if ($top >= 0 && $lines->[$top] !~ /^#/) {
                my $blank = 0;

                for my $j ($top + 1 .. $k - 2) {
                    last if $lines->[$j] !~ /^$/;
                    $blank++;
                }

                push @faults, "$k: $blank blank lines before $name()"
                    unless $blank == 2;
            }

            if ($type =~ /^static/) {
                my @seen = $code =~ /^(?:static\s[^;{}=]*?\b\Q$name\E\()/mg;

                push @faults, "$k: static $name() has no prototype"
                    unless @seen >= 2;
            }
        }
    }

    return @faults;
}


# \x01 tells blanked text from blanks

sub blank
{
    my ($text) = @_;

    if ($text =~ m{^/\*}) {
        return $text =~ s/[^\n]/\x01/gr;
    }

    my $quote = substr($text, 0, 1);

    return $quote . 'x' x (length($text) - 2) . $quote;
}


sub slurp
{
    my ($file) = @_;

    open(my $fh, '<:raw', "$root/$file") or die "$file: $!\n";

    local $/;

    return scalar(<$fh>) // '';
}

###############################################################################
