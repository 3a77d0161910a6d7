#!/bin/sh
# `docker run IMAGE render JOB.yaml` is `batchgen render JOB.yaml`. The name of a program runs that program: `ray up` starts
# its containers with bash. KubeRay brings a command of its own and never comes here.
case "${1-}" in
    bash | sh | python | python3 | ray | /*) exec "$@" ;;
    *) exec batchgen "$@" ;;
esac
