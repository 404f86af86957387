import { chownSync, mkdirSync } from 'node:fs';
import { mkdir, readdir, rename, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage } from 'node:http';
import path from 'node:path';

/** The demo's app: people upload files by `PUT /media/<name>`, and `GET /` says how many there are. */

const MEDIA = '/srv/media';
const NOBODY_SPECIAL = 1000;

mkdirSync(MEDIA, { recursive: true });
chownSync(MEDIA, NOBODY_SPECIAL, NOBODY_SPECIAL);
// A new volume belongs to root; from here on, its owner is enough.
process.setgid?.(NOBODY_SPECIAL);
process.setuid?.(NOBODY_SPECIAL);

async function upload(request: IncomingMessage, name: string): Promise<number> {
  const file = path.join(MEDIA, name);
  if (!file.startsWith(`${MEDIA}/`)) return 400;
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(`${file}.part`, Buffer.concat(chunks));
  await rename(`${file}.part`, file);
  return 201;
}

async function countFiles(): Promise<string> {
  const entries = await readdir(MEDIA, { recursive: true, withFileTypes: true });
  return `${entries.filter((entry) => entry.isFile()).length} files\n`;
}

const server = createServer((request, response) => {
  const { pathname } = new URL(request.url ?? '/', 'http://web');
  const answer = async () => {
    if (request.method === 'GET' && pathname === '/') return response.end(await countFiles());
    if (request.method !== 'PUT' || !pathname.startsWith('/media/')) return response.writeHead(404).end();
    const status = await upload(request, decodeURIComponent(pathname.slice('/media/'.length)));
    return response.writeHead(status).end();
  };
  answer().catch((error: unknown) => {
    console.error(error);
    response.writeHead(500).end();
  });
});
server.listen(3000, () => console.log('the upload site listens on port 3000'));
