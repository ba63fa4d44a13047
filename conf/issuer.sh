#!/bin/sh

# The local issuer of "make run": its own RSA key, tokens for named users, and
# signed webhooks about them.
#
#     issuer.sh init                    key and key set, unless they are there
#     issuer.sh token NAME [SECONDS]    a token for user_NAME
#     issuer.sh webhook NAME [EVENT]    a signed webhook, in a file of options
#                                       for curl, of which the name is printed:
#                                       curl -K "$(issuer.sh webhook anna)" URL
#                                       EVENT is user.created, user.updated
#                                       or user.deleted

set -eu

home=${RUNCOACH_HOME:-./run}
dir=$home/issuer


fail() {
    echo "issuer.sh: $1" >&2
    exit 1
}

usage() {
    fail 'usage: issuer.sh init | token NAME [SECONDS] | webhook NAME [EVENT]'
}

base64url() {
    openssl base64 -A | tr '+/' '-_' | tr -d '='
}

# octets from hexadecimal digits; arguments of a builtin are nobody's to see

octets() {
    echo "$1" | sed 's/../& /g' | tr ' ' '\n' | while read -r digits; do
        if [ -n "$digits" ]; then
            # shellcheck disable=SC2059
            printf "\\$(printf %03o "0x$digits")"
        fi
    done
}

random_id() {
    openssl rand -hex 13
}

check_name() {
    case $1 in
    '' | [!A-Za-z]* | *[!A-Za-z0-9_]*)
        fail "\"$1\": a name is letters, digits and _, and begins with a letter"
        ;;
    esac
}


init() {
    mkdir -p "$dir"

    if [ -s "$dir/jwks.json" ] && [ -s "$dir/key.pem" ]; then
        return
    fi

    (
        umask 077
        openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 \
            -out "$dir/key.pem.new" 2> /dev/null
    )

    modulus=$(openssl rsa -in "$dir/key.pem.new" -noout -modulus)
    modulus=${modulus#Modulus=}

    kid=$(echo "$modulus" | openssl dgst -sha256 -r | cut -c 1-20)
    n=$(octets "$modulus" | base64url)

    printf '{"keys":[{"use":"sig","kty":"RSA","kid":"ins_%s","alg":"RS256","n":"%s","e":"AQAB"}]}\n' \
        "$kid" "$n" > "$dir/jwks.json.new"

    echo "ins_$kid" > "$dir/kid"
    echo https://issuer.localhost > "$dir/issuer"

    mv "$dir/key.pem.new" "$dir/key.pem"
    mv "$dir/jwks.json.new" "$dir/jwks.json"
}


token() {
    name=$1
    lifetime=${2:-3600}

    check_name "$name"

    case $lifetime in
    '' | *[!0-9]* | ?????????*) fail "\"$lifetime\": a lifetime is in seconds" ;;
    esac

    if [ ! -r "$dir/key.pem" ]; then
        fail "no key in $dir: is this the home of \"make run\", and yours?"
    fi

    now=$(date +%s)

    header=$(printf '{"alg":"RS256","typ":"JWT","kid":"%s"}' \
        "$(cat "$dir/kid")" | base64url)

    claims=$(printf '{"iss":"%s","sub":"user_%s","sid":"sess_%s","iat":%s,"nbf":%s,"exp":%s,"v":2}' \
        "$(cat "$dir/issuer")" "$name" "$(random_id)" \
        "$now" "$now" "$((now + lifetime))" | base64url)

    signature=$(printf %s "$header.$claims" \
        | openssl dgst -sha256 -sign "$dir/key.pem" -binary | base64url)

    echo "$header.$claims.$signature"
}


webhook() {
    name=$1
    event=${2:-user.created}

    check_name "$name"

    secret=${CLERK_WEBHOOK_SECRET:-${CLERK_WEBHOOK_SIGNING_SECRET:-}}
    if [ -z "$secret" ] && [ -r "$home/webhook.secret" ]; then
        secret=$(cat "$home/webhook.secret")
    fi
    if [ -z "$secret" ]; then
        fail "no secret: neither CLERK_WEBHOOK_SECRET nor $home/webhook.secret"
    fi

    secret=${secret%%,*}
    secret=${secret#whsec_}

    now=$(date +%s)
    id=msg_$(random_id)

    case $event in
    user.created | user.updated)
        data=$(printf '{"object":"user","id":"user_%s","first_name":"%s","last_name":null,"primary_email_address_id":"idn_%s","email_addresses":[{"object":"email_address","id":"idn_%s","email_address":"%s@example.com","verification":{"status":"verified","strategy":"email_code"}}],"created_at":%s000,"updated_at":%s000}' \
            "$name" "$name" "$name" "$name" "$name" "$now" "$now")
        ;;
    user.deleted)
        data=$(printf '{"object":"user","id":"user_%s","deleted":true}' "$name")
        ;;
    *)
        fail "\"$event\": an event is user.created, user.updated or user.deleted"
        ;;
    esac

    body=$(printf '{"object":"event","type":"%s","instance_id":"ins_local","timestamp":%s000,"data":%s}' \
        "$event" "$now" "$data")

    key=$(printf %s "$secret" | openssl base64 -d -A | od -An -v -tx1 \
        | tr -d ' \n')

    signature=$(printf %s "$id.$now.$body" \
        | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary \
        | openssl base64 -A)

    {
        printf 'header = "content-type: application/json"\n'
        printf 'header = "svix-id: %s"\n' "$id"
        printf 'header = "svix-timestamp: %s"\n' "$now"
        printf 'header = "svix-signature: v1,%s"\n' "$signature"
        printf 'data = "%s"\n' "$(printf %s "$body" | sed 's/["\\]/\\&/g')"
    } > "$home/webhook.curl"

    echo "$home/webhook.curl"
}


case ${1:-} in
init)
    [ $# -eq 1 ] || usage
    init
    ;;
token)
    [ $# -eq 2 ] || [ $# -eq 3 ] || usage
    token "$2" "${3:-3600}"
    ;;
webhook)
    [ $# -eq 2 ] || [ $# -eq 3 ] || usage
    webhook "$2" "${3:-user.created}"
    ;;
*)
    usage
    ;;
esac
