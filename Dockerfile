# The workbook with everything it needs: docker build -t cables . && docker run --rm -p 127.0.0.1:8888:8888 cables
# Binder and the dev container build from this file too, which is why the user is number 1000 and the project lies in its home.
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends git chromium && rm -rf /var/lib/apt/lists/*
ARG NB_USER=reader
ARG NB_UID=1000
RUN useradd --create-home --uid ${NB_UID} ${NB_USER}
USER ${NB_USER}
ENV HOME=/home/${NB_USER}
WORKDIR ${HOME}/cable_classifier
ENV PATH=${HOME}/.local/bin:${PATH} PIP_DISABLE_PIP_VERSION_CHECK=1
COPY --chown=${NB_UID} . .
RUN pip install --user --no-cache-dir -c constraints.txt -e '.[dev]'
EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser", "nbs"]
