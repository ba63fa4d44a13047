#!/bin/sh

# Writes what nginx's own directives need from the environment into
# $RUNCOACH_HOME/env.conf (http), env.server.conf (server) and env.operator.conf
# (who may see what goes on).  Directives of ours read the environment themselves, so no secret is written here.

set -euf

home=${RUNCOACH_HOME:-./run}


fail() {
    echo "env.sh: $1 is \"$2\": $3" >&2
    exit 1
}

number() {
    case $2 in
    '' | *[!0-9]* | ??????????????*)
        fail "$1" "$2" "it must be a whole number, $3"
        ;;
    esac
}

# what would end or alter the word it is put into

plain() {
    case $2 in
    *[!][A-Za-z0-9._:/@%+,=~-]*)
        fail "$1" "$2" "only letters, digits and . _ : / @ % + , = ~ - [ ] may be in it"
        ;;
    esac
}

# letters are what tells a name from an address

is_ipv4() {
    case $1 in
    *[!0-9.]* | *..* | .* | *. | *.*.*.*.* | *[0-9][0-9][0-9][0-9]*) return 1 ;;
    *.*.*.*) ;;
    *) return 1 ;;
    esac
    for octet in $(echo "$1" | tr . ' '); do
        [ "$octet" -le 255 ] || return 1
    done
}

is_ipv6() {
    case $1 in
    *[!0-9A-Fa-f:.]*) return 1 ;;
    *:*:*) return 0 ;;
    esac
    return 1
}

# network NAME VALUE NETWORK: an address, with or without a prefix

network() {
    address=${3%/*}
    prefix=${3#"$address"}
    if is_ipv4 "$address"; then
        most=32
    elif is_ipv6 "$address"; then
        most=128
    else
        fail "$1" "$2" "\"$3\" is not an address or network, must be like 10.9.0.0/16 or fd00:1::/64; \"none\" is nobody"
    fi
    case $prefix in
    '') return ;;
    esac
    number "$1" "${prefix#/}" "in \"$3\" after the slash"
    if [ "${#prefix}" -gt 4 ] || [ "${prefix#/}" -gt "$most" ]; then
        fail "$1" "$2" "the prefix of \"$3\" must be 0 to $most"
    fi
}


mkdir -p "$home"
home=$(cd "$home" && pwd -P)

case $home in
*[\"\$\\\;{}]* | *"
"*)
    fail RUNCOACH_HOME "$home" \
        'no quote, dollar sign, backslash, semicolon, brace or line feed may be in it'
    ;;
esac

mkdir -p "$home/tmp" "$home/logs" "$home/modules"


# where the edge listens

port=${PORT:-8080}
number PORT "$port" "1 to 65535"
if [ "$port" -lt 1 ] || [ "$port" -gt 65535 ]; then
    fail PORT "$port" "it must be 1 to 65535"
fi

listen=
case ${LISTEN:-*} in
'*')
    listen="listen  $port;"
    if [ -s /proc/net/if_inet6 ]; then
        listen="$listen
listen  [::]:$port  ipv6only=on;"
    fi
    ;;
*)
    for address in $(echo "$LISTEN" | tr ',' ' '); do
        bare=${address#\[}
        bare=${bare%\]}
        if is_ipv6 "$bare"; then
            listen="$listen${listen:+
}listen  [$bare]:$port  ipv6only=on;"
        elif is_ipv4 "$address"; then
            listen="$listen${listen:+
}listen  $address:$port;"
        else
            fail LISTEN "$LISTEN" \
                'it must be addresses without port, separated by commas, or *'
        fi
    done
    ;;
esac


# the application

backend_include=
backend_upstream=

if [ -n "${BACKEND_URL:-}" ]; then
    plain BACKEND_URL "$BACKEND_URL"
    right='it must be http://host[:port] or https://host[:port], without a path'

    scheme=${BACKEND_URL%%://*}
    hostport=${BACKEND_URL#*://}
    hostport=${hostport%/}

    case $BACKEND_URL in
    http://?* | https://?*) ;;
    *) fail BACKEND_URL "$BACKEND_URL" "$right" ;;
    esac

    case $hostport in
    '' | */* | *@* | *,* | *=* | *%* | *~* | *+* | :*)
        fail BACKEND_URL "$BACKEND_URL" "$right"
        ;;
    esac

    case $hostport in
    \[*\]:*) host=${hostport%\]:*}\] backend_port=${hostport##*\]:} ;;
    \[*\]) host=$hostport backend_port= ;;
    *:*) host=${hostport%%:*} backend_port=${hostport#*:} ;;
    *) host=$hostport backend_port= ;;
    esac

    case $hostport in
    *:) fail BACKEND_URL "$BACKEND_URL" "$right" ;;
    esac

    if [ -n "$backend_port" ]; then
        case $backend_port in
        *[!0-9]* | ??????*) fail BACKEND_URL "$BACKEND_URL" "$right" ;;
        esac
        if [ "$backend_port" -lt 1 ] || [ "$backend_port" -gt 65535 ]; then
            fail BACKEND_URL "$BACKEND_URL" "its port must be 1 to 65535"
        fi
    fi

    if [ "$scheme" = https ]; then
        default_port=443
    else
        default_port=80
    fi

    backend_host=$hostport
    backend_name=$host
    backend_port=${backend_port:-$default_port}

    bare=${host#\[}
    bare=${bare%\]}

    # A name is looked up while serving, because the addresses of a deployed
    # application change; connections are kept only to fixed addresses.

    if [ "$host" = localhost ] || is_ipv4 "$host" || is_ipv6 "$bare"; then
        case $host in
        localhost) address=127.0.0.1 ;;
        *) address=$host ;;
        esac

        backend="$scheme://backend"
        backend_upstream="
upstream backend {
    server     $address:$backend_port;
    keepalive  32;
}
"
    else
        backend="$scheme://$host:$backend_port"
    fi

else
    backend=http://backend
    backend_host=backend
    backend_name=backend
    plain BACKEND_SOCKET "${BACKEND_SOCKET:-}"
    backend_socket=${BACKEND_SOCKET:-$home/backend.sock}
    backend_upstream="
upstream backend {
    server     \"unix:$backend_socket\";
    keepalive  32;
}
"
    backend_include="
include  backend.conf;

server {
    listen      \"unix:$backend_socket\";
    access_log  off;

    runcoach_count        off;
    client_max_body_size  0;

    location / {
        return  200  '{\$backend_method\$backend_subject\$backend_clerk_user_id\$backend_user_id}';
    }
}
"
fi


# the sidecar

sidecar=${SIDECAR_LISTEN:-unix:$home/sidecar.sock}
case $sidecar in
*[\"\$\\\;{}]* | *"
"*)
    fail SIDECAR_LISTEN "$sidecar" 'it must be unix:/path or host:port'
    ;;
unix:/?* | [!:]*:[0-9]*) ;;
*) fail SIDECAR_LISTEN "$sidecar" 'it must be unix:/path or host:port' ;;
esac


# names are looked up by whom

resolvers=

if [ -n "${RESOLVER:-}" ]; then
    plain RESOLVER "$(echo "$RESOLVER" | tr -d '[]')"
    resolvers=$(echo "$RESOLVER" | tr ',' ' ')
elif [ -r /etc/resolv.conf ]; then

    # an address with a zone (fe80::1%eth0) is one that nginx cannot ask

    resolvers=$(awk '$1 == "nameserver" && $2 !~ /%/ { print $2 }' \
        /etc/resolv.conf)
fi

resolver=

for address in ${resolvers:-127.0.0.1}; do
    bare=${address#\[}
    bare=${bare%\]}
    if is_ipv6 "$bare"; then
        resolver="$resolver [$bare]"
    elif is_ipv4 "$address" || is_ipv4 "${address%:*}"; then
        resolver="$resolver $address"
    elif [ -n "${RESOLVER:-}" ]; then
        fail RESOLVER "$RESOLVER" \
            'it must be addresses of name servers, separated by commas'
    fi
done


# certificates of upstreams are judged by the system's authorities

authorities=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
case $authorities in
*[\"\$\\\;{}]*)
    fail SSL_CERT_FILE "$authorities" 'it must be the path of a PEM file'
    ;;
esac
if [ ! -r "$authorities" ]; then
    fail SSL_CERT_FILE "$authorities" \
        'it cannot be read; install ca-certificates, or name a PEM file of authorities'
fi


# whom to believe about the address of the client

trusted=${TRUSTED_PROXIES:-127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,169.254.0.0/16,::1/128,fc00::/7,fe80::/10}
trusted_from=
trusted_geo=

for network in $(echo "$trusted" | tr ',' ' '); do
    if [ "$network" = none ]; then
        continue
    fi
    network TRUSTED_PROXIES "$trusted" "$network"
    trusted_from="$trusted_from
set_real_ip_from  $network;"
    trusted_geo="$trusted_geo
    $network  1;"
done

# Fly's own header holds one address, which no client can add to

if [ -n "${FLY_APP_NAME:-}" ]; then
    real_ip_header=Fly-Client-IP
else
    real_ip_header=X-Forwarded-For
fi


# who may see metrics and the debug ring, besides this machine, or "none"

operators='
allow  127.0.0.1;
allow  ::1;
allow  unix:;'
operators_geo=

if [ "${OPERATOR_NETWORKS:-}" = none ]; then
    operators=
    OPERATOR_NETWORKS=
fi

for network in $(echo "${OPERATOR_NETWORKS:-}" | tr ',' ' '); do
    network OPERATOR_NETWORKS "$OPERATOR_NETWORKS" "$network"
    operators="$operators
allow  $network;"
    operators_geo="$operators_geo
    $network  1;"
done


# limits

rate=${RATE_LIMIT_PER_ADDRESS:-100}
number RATE_LIMIT_PER_ADDRESS "$rate" "requests per second, 0 for no limit"
if [ "$rate" -gt 1000000 ]; then
    fail RATE_LIMIT_PER_ADDRESS "$rate" "it must be at most 1000000"
fi

size=${MAX_FILE_SIZE:-10485760}
number MAX_FILE_SIZE "$size" "bytes"


# the local store

bucket=${R2_BUCKET_NAME:-fit-files}
store=
exempt=

if [ -n "${LOCAL_STORE:-}" ]; then
    if [ -z "${R2_ENDPOINT_URL:-}" ]; then
        fail LOCAL_STORE "$LOCAL_STORE" \
            'R2_ENDPOINT_URL must be set with it, to the URL of the edge itself'
    fi

    case $LOCAL_STORE in
    *[\"\$\\\;{}]*) fail LOCAL_STORE "$LOCAL_STORE" 'it must be a directory' ;;
    /*) ;;
    *) fail LOCAL_STORE "$LOCAL_STORE" 'it must be an absolute path' ;;
    esac

    case ${R2_URL_STYLE:-path} in
    path) ;;
    *) fail R2_URL_STYLE "$R2_URL_STYLE" 'the local store is one of style path' ;;
    esac

    right='a bucket has 3 to 63 letters, digits, dots and hyphens'
    case $bucket in
    *[!a-z0-9.-]* | [.-]* | *[.-] | *..*)
        fail R2_BUCKET_NAME "$bucket" "$right"
        ;;
    api | health)
        fail R2_BUCKET_NAME "$bucket" 'the edge itself has this path'
        ;;
    ???*) ;;
    *) fail R2_BUCKET_NAME "$bucket" "$right" ;;
    esac

    store="
location /$bucket/ {
    root                  \"$LOCAL_STORE\";
    client_max_body_size  $size;
    include               store.conf;
}

include  store.errors.conf;
"
    exempt="
    \"~^/$bucket/\"           \"\";"
fi


limit_zone=
limit=

if [ "$rate" -gt 0 ]; then
    limit_zone="
map \$uri \$edge_limit_key {
    \"~^/api/v1/webhooks/\"  \"\";$exempt
    default                \$edge_address;
}

limit_req_zone       \$edge_limit_key  zone=address:10m  rate=${rate}r/s;
limit_req_status     429;
limit_req_log_level  info;
"
    limit="limit_req  zone=address  burst=$((rate * 2))  nodelay;"
fi


origins=${CORS_ORIGINS:-}
for origin in $(echo "$origins" | tr ',' ' '); do
    case $origin in
    http://*/* | https://*/*)
        fail CORS_ORIGINS "$origins" \
            "\"$origin\" must end after the host or port, without a slash"
        ;;
    http://?* | https://?*) ;;
    *)
        fail CORS_ORIGINS "$origins" \
            "\"$origin\" must be scheme://host or scheme://host:port"
        ;;
    esac
done


# a reload in between sees the old file or the new one, never a half

write() {
    cat > "$home/.$1.$$"
    chmod 644 "$home/.$1.$$"
    mv -f "$home/.$1.$$" "$home/$1"
}

write env.conf << END
# written by env.sh from the environment; changes here do not last

resolver         $resolver  valid=30s;
resolver_timeout  5s;

upstream sidecar {
    server     "$sidecar";
    keepalive  16;
}
$backend_upstream
map "" \$edge_backend {
    default  $backend;
}

map \$proxy_host \$edge_upstream_host {
    sidecar  sidecar;
    default  $backend_host;
}

map \$proxy_host \$edge_upstream_name {
    backend  $backend_name;
    default  \$proxy_host;
}

proxy_ssl_trusted_certificate  "$authorities";
proxy_ssl_verify               on;
proxy_ssl_verify_depth         4;
proxy_ssl_server_name          on;
proxy_ssl_name                 \$edge_upstream_name;
proxy_ssl_protocols            TLSv1.2 TLSv1.3;
$trusted_from

real_ip_header  $real_ip_header;

geo \$realip_remote_addr \$edge_trusted_peer {
    default  0;$trusted_geo
}

geo \$realip_remote_addr \$edge_operator_peer {
    default    0;
    127.0.0.1  1;
    ::1        1;$operators_geo
}

$limit_zone$backend_include
END

write env.operator.conf << END
# written by env.sh from the environment; changes here do not last

$operators
deny   all;
END

write env.server.conf << END
# written by env.sh from the environment; changes here do not last

$listen

client_max_body_size  $((size + 1048576));
$limit
$store
END
