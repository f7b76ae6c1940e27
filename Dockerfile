FROM python:3.12-slim AS build
WORKDIR /src
COPY . .
RUN python -m pip install --no-cache-dir --prefix=/install -c constraints.txt ./device_sdk ".[all]"

FROM python:3.12-slim
RUN useradd --system --create-home --uid 10001 fleetpulse && mkdir /data && chown fleetpulse /data
COPY --from=build /install /usr/local
USER fleetpulse
VOLUME /data
ENV FLEETPULSE_DATA=/data
EXPOSE 4318 8400 8501
HEALTHCHECK --interval=10s --timeout=3s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8400/healthz', timeout=2)"]
ENTRYPOINT ["fleetpulse"]
CMD ["collect", "--host", "0.0.0.0", "--api-host", "0.0.0.0"]
