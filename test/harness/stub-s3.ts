import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Starts a server that responds as S3 would, as far as `answer` implements it. */
export async function startStubS3(answer: RequestListener) {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    endpoint,
    location: { bucket: 'bucket', prefix: '', endpoint, pathStyle: true },
    credentials: { accessKeyId: 'id', secretAccessKey: 'canary-secret' },
    stop() {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** Returns the body of an error response, as S3 writes it. */
export const s3Error = (code: string) => `<Error><Code>${code}</Code><Message>no</Message></Error>`;
