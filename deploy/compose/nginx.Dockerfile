# A small web server, once as the ingress before the coordinators and once as the target that monkeys visit.
FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends curl nginx-light \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/*
COPY ingress.conf target.conf /etc/nginx/
USER 1000:1000
WORKDIR /tmp
STOPSIGNAL SIGQUIT
CMD ["nginx", "-c", "/etc/nginx/target.conf"]
