#!/usr/bin/env bash
# Sets TRACEPARENT, and SPANHOOK_JOB_ID where the job is known, for the later steps of a job.
#
# The exit code is always 0: whatever is wrong is one warning, and the job goes on. The endpoint is asked if there is
# one; without it, and when it is no use, the ids are computed here as docs/ids.md says. What is written to the runner's
# files matched a pattern from end to end, so nothing that somebody answers can set a variable of its own.
#
# Runs with the bash of every runner: 3.2 on macOS, Git's on Windows.

export LC_ALL=C           # [a-f] are six letters, and a length is in bytes
export MSYS_NO_PATHCONV=1 # Git's bash would rewrite arguments that look like paths

# Standard output is read for the runner's commands. So a text is this script's own, and never what came from elsewhere.
warn() { echo "::warning title=spanhook::$1"; }

is_number() { [[ $1 =~ ^[1-9][0-9]{0,18}$ ]]; }

is_context() {
  [[ $1 =~ ^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$ ]] || return 1
  [[ $1 != 00-00000000000000000000000000000000-* && $1 != *-0000000000000000-0? ]]
}

# Digits of the SHA-256 of standard input: those of the first to the last place.
sha256() {
  if command -v sha256sum > /dev/null; then sha256sum; else shasum -a 256; fi | cut -c"$1"
}

# Hashed ids are of netstrings, native ones of text without separators.
hashed() { # places, fields
  local places=$1 field
  shift
  for field in spanhook/1 github "$host" "$@"; do printf '%s:%s,' "${#field}" "$field"; done | sha256 "$places"
}

native() { printf '%s' "$2" | sha256 "$1"; } # places, text

# The trace context by the ids of run, attempt and job.
computed() {
  local trace span
  case $IDS in
    hashed)
      trace=$(hashed 1-32 trace "$run/$attempt")
      if [[ $JOB ]]; then span=$(hashed 1-16 job "$JOB"); else span=$(hashed 1-16 run "$run/$attempt"); fi
      ;;
    native)
      trace=$(native 1-32 "$run${attempt}t")
      if [[ $JOB ]]; then span=$(native 17-32 "$JOB-j"); else span=$(native 17-32 "$run${attempt}s"); fi
      ;;
  esac
  echo "00-$trace-$span-01"
}

# The instance as webhooks name it: lower case, without the port of its scheme.
instance() {
  local url=${GITHUB_SERVER_URL:-https://github.com} host
  host=${url#*://}
  host=${host%%/*}
  if [[ $url == http://* ]]; then host=${host%:80}; fi
  printf '%s' "${host%:443}" | tr '[:upper:]' '[:lower:]'
}

# A GET with that bearer token: sets `status`, 000 without an answer, and `body`, of which the end is kept. The token is
# no argument, which other processes could see; and no redirect is followed, which would carry it elsewhere.
get() { # token, curl's arguments
  local header='' answer
  if [[ $1 ]]; then header="header = \"Authorization: Bearer $1\""; fi
  shift
  answer=$(
    printf '%s\n' "$header" |
      curl --silent --globoff --get --max-time 5 --config - --write-out '\n%{http_code}' "$@" 2> /dev/null |
      tail -c 20000 | tr -d '\0'
  )
  status=${answer##*$'\n'}
  body=${answer%$'\n'*}
  body=${body%$'\n'}
}

# Sets `proof` to the job's OIDC token for the audience.
# https://docs.github.com/actions/reference/security/oidc#methods-for-requesting-the-oidc-token
job_token() {
  local status body
  if [[ ! ${ACTIONS_ID_TOKEN_REQUEST_URL-} ]]; then
    warn "no OIDC token: the job needs 'permissions: id-token: write'; pull requests from forks and Dependabot get none"
    return 1
  fi
  get "${ACTIONS_ID_TOKEN_REQUEST_TOKEN-}" --data-urlencode "audience=$AUDIENCE" "$ACTIONS_ID_TOKEN_REQUEST_URL"
  proof=$(printf '%s' "$body" | tr -d '\n' | sed -n 's/.*"value" *: *"\([^"]*\)".*/\1/p')
  if [[ ! $proof =~ ^[A-Za-z0-9_.-]+$ ]]; then
    warn "GitHub gave no OIDC token for the audience"
    return 1
  fi
  echo "::add-mask::$proof"
}

# Sets `context` to what the endpoint says.
asked() {
  local endpoint=${ENDPOINT%/} proof=$TOKEN status body
  if [[ ! $endpoint =~ ^https?://[^[:space:]]+$ ]]; then
    warn "endpoint is no address: it looks like https://ci.example.com"
    return
  fi
  if ! command -v curl > /dev/null; then
    warn "the endpoint is not asked, since there is no curl"
    return
  fi
  if [[ $AUDIENCE ]]; then
    job_token || return
  elif [[ ! $proof =~ ^[!-~]*$ || $proof == *[\"\\]* ]]; then
    warn "the token has characters that no header may have"
    return
  fi
  get "$proof" --data format=value --data-urlencode "instance=$host" --data-urlencode "project=${GITHUB_REPOSITORY-}" \
    "${endpoint%/traceparent}/traceparent/github/$run/$attempt/$JOB"
  case $status in
    200) if is_context "$body"; then context=$body; else warn "the endpoint's answer is no trace context: check its address"; fi ;;
    401 | 403) warn "the endpoint refused this job ($status): check audience or token, and its ACCESS" ;;
    000 | '') warn "the endpoint can't be reached, or gave no answer within 5 seconds" ;;
    [1-5][0-9][0-9]) warn "the endpoint answered $status: check its address, and its log" ;;
    *) warn "the endpoint's answer can't be read" ;;
  esac
}

main() {
  local run=${GITHUB_RUN_ID-} attempt=${GITHUB_RUN_ATTEMPT-} host context=''
  if ! is_number "$run" || ! is_number "$attempt"; then
    warn "no TRACEPARENT: GITHUB_RUN_ID and GITHUB_RUN_ATTEMPT are those of no job"
    return
  fi
  if [[ $JOB ]] && ! is_number "$JOB"; then
    warn "job-id is no number, so the parent is the run: leave it out, or take \${{ job.check_run_id }}"
    JOB=''
  fi
  host=$(instance)
  if [[ $ENDPOINT ]]; then asked; fi
  if [[ ! $context ]]; then context=$(computed); fi
  if ! is_context "$context"; then
    warn "no TRACEPARENT: ids must be hashed or native, and the job needs sha256sum or shasum"
    return
  fi
  echo "TRACEPARENT=$context"
  {
    echo "TRACEPARENT=$context"
    if [[ $JOB ]]; then echo "SPANHOOK_JOB_ID=$JOB"; fi
  } >> "${GITHUB_ENV:-/dev/null}"
  echo "traceparent=$context" >> "${GITHUB_OUTPUT:-/dev/null}"
}

main
exit 0
