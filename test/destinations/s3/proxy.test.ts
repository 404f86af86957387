import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { expect, test } from 'vitest';
import { createS3Destination } from '../../../src/destinations/s3/s3.ts';
import { keys } from '../../contract/destination.ts';

test('HTTPS_PROXY is used for a tunnel to the server', async () => {
  const asked: string[] = [];
  const proxy = createServer();
  proxy.on('connect', (request, socket) => {
    asked.push(request.url ?? '');
    socket.end('HTTP/1.1 503 Service Unavailable\r\n\r\n');
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  try {
    const destination = createS3Destination({
      location: { bucket: 'bucket', prefix: '', endpoint: 'https://s3.example.org', pathStyle: true },
      credentials: { accessKeyId: 'id', secretAccessKey: 'canary-secret' },
      uploads: tmpdir(),
      env: { https_proxy: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}` },
      limits: { attempts: 2, baseDelayMs: 1 },
    });
    await expect(keys(destination, '')).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
    expect(asked).toEqual(['s3.example.org:443', 's3.example.org:443']);
  } finally {
    proxy.closeAllConnections();
    proxy.close();
  }
});
