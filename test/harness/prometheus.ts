import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { expect } from 'vitest';

/** A running Prometheus server. */
export interface Prometheus {
  /** its address, without a trailing slash */
  url: string;
  /** Returns the series of an expression. Fails if Prometheus refuses it. */
  query(expression: string): Promise<{ metric: Record<string, string>; value: [number, string] }[]>;
  stop(): Promise<void>;
}

interface Answer {
  status: string;
  error?: string;
  data: { result: { metric: Record<string, string>; value: [number, string] }[] };
}

/** Starts the machine's Prometheus. `directory`: for its configuration and data. */
export async function startPrometheus(directory: string, config: string): Promise<Prometheus> {
  const port = await freePort();
  const file = path.join(directory, 'prometheus.yml');
  writeFileSync(file, config);
  const args = [`--config.file=${file}`, `--storage.tsdb.path=${directory}/data`];
  const server = spawn('prometheus', [...args, `--web.listen-address=127.0.0.1:${port}`], { stdio: 'ignore' });
  const url = `http://127.0.0.1:${port}`;
  return {
    url,
    async query(expression) {
      const response = await fetch(`${url}/api/v1/query?query=${encodeURIComponent(expression)}`);
      const { status, data, error } = (await response.json()) as Answer;
      expect({ expression, status, error }).toEqual({ expression, status: 'success', error: undefined });
      return data.result;
    },
    async stop() {
      server.kill();
      if (server.exitCode === null) await once(server, 'exit');
    },
  };
}

/** Returns a port that nothing uses now. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  return typeof address === 'object' && address !== null ? address.port : 0;
}
