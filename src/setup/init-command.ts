import { stat } from 'node:fs/promises';
import path from 'node:path';
import { EXIT } from '../base/exit.ts';
import type { Paint } from '../report/paint.ts';
import { type InitResult, init } from './init.ts';
import { renderInit } from './init-text.ts';

/** Where the image mounts the project: `docker run --rm -v ./:/project lifeboat init`. */
const MOUNTED = '/project';

interface Output {
  env: NodeJS.ProcessEnv;
  paint: Paint;
}

/**
 * Runs `lifeboat init`, which needs no engine, no settings and no container of its own.
 *
 * @param show prints the result: as JSON, or as the text
 * @returns the exit status
 */
export async function runInit(
  options: Readonly<Record<string, unknown>>,
  io: Output,
  show: (result: InitResult, text: () => string) => void,
): Promise<number> {
  const { directory, file, image } = options;
  const files = Array.isArray(file) ? file.filter((one): one is string => typeof one === 'string') : [];
  const result = await init({
    directory: path.resolve(typeof directory === 'string' ? directory : await usualDirectory()),
    files,
    image: typeof image === 'string' ? image : io.env.IMAGE_REFERENCE || 'lifeboat:latest',
    write: options.yes === true,
    env: io.env,
  });
  show(result, () => renderInit(result, io.paint));
  if (result.byHand.length > 0) return EXIT.partial;
  return result.files.length === 0 ? EXIT.nothing : EXIT.done;
}

async function usualDirectory(): Promise<string> {
  const isMounted = await stat(MOUNTED).then(
    (found) => found.isDirectory(),
    () => false,
  );
  return isMounted ? MOUNTED : process.cwd();
}
