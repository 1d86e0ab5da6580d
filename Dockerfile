# The image of Sluice. Its steps are replayed without Docker by tests/deploy/test_dockerfile.py.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
# Which lock file: base, or local with the embedded model.
ARG LOCK=base
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/sluice
COPY requirements requirements
RUN /opt/sluice/bin/pip install --quiet --require-hashes --no-deps --only-binary :all: -r requirements/${LOCK}.lock
COPY pyproject.toml README.md LICENSE ./
COPY proxy proxy
RUN /opt/sluice/bin/pip install --quiet --no-deps --no-build-isolation . \
    && /opt/sluice/bin/pip uninstall --quiet --yes -r requirements/build.in pip

FROM python:${PYTHON}-slim
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Sluice" \
      org.opencontainers.image.description="An OpenAI-compatible reverse proxy: YAML rules on the model name pick the upstream" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/sluice /opt/sluice
COPY deploy/docker/config.yaml /etc/sluice/config.yaml
# chmod: the file comes with the permissions that the builder's umask gave it.
RUN groupadd --gid 10001 sluice \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/sluice --shell /usr/sbin/nologin sluice \
    && install --directory --owner=10001 --group=10001 /var/lib/sluice \
    && chmod 644 /etc/sluice/config.yaml
# Nothing but /var/lib/sluice is written to. SAFEPATH: a folder `proxy` in there must not stand in for ours.
ENV PATH=/opt/sluice/bin:/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 \
    SLUICE_CONFIG=/etc/sluice/config.yaml
USER 10001:10001
WORKDIR /var/lib/sluice
VOLUME ["/var/lib/sluice"]
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["python", "-m", "proxy", "healthcheck"]
ENTRYPOINT ["python", "-m", "proxy"]
CMD ["serve"]
