# The library and the workflow, from the lock: what Snakemake's Kubernetes and cloud executors start their jobs in.
FROM python:3.11-slim
WORKDIR /gandl
COPY requirements.lock.txt ./
RUN pip install --no-cache-dir -r requirements.lock.txt
COPY . .
RUN pip install --no-cache-dir -c requirements.lock.txt -e '.[s3]'
CMD ["snakemake", "--cores", "all"]
