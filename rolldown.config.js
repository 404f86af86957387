/**
 * The program and its modules in a few files: a command starts in half the time of 900 small ones, and what is not used
 * stays out of the image. Names and lines are left as they are: a stack trace is to be read by people.
 */
export default {
  input: {
    cli: 'src/cli.ts',
    // Threads are started by file name, beside whatever chunk starts them.
    'hash-worker': 'src/destinations/hash-worker.ts',
    'read-worker': 'src/store/filesystem/read-worker.ts',
    'sqlite-program': 'src/store/sqlite/sqlite-program.ts',
  },
  platform: 'node',
  // docker-modem takes it for engines behind SSH, which Lifeboat refuses: 580 kB that no command needs.
  resolve: { alias: { ssh2: false } },
  output: {
    dir: 'dist',
    format: 'esm',
    entryFileNames: '[name].js',
    chunkFileNames: '[name]-[hash].js',
    cleanDir: true,
  },
};
