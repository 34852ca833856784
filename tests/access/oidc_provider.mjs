// npm's certified oidc-provider, with one person whose sign-in needs no typing: `node oidc_provider.mjs PORT CLIENT SECRET REDIRECT`.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [port, client, secret, redirect] = process.argv.slice(2);
const found = createRequire(process.env.OIDC_PROVIDER + '/package.json').resolve('oidc-provider');
const { Provider } = await import(pathToFileURL(found).href);

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{ client_id: client, client_secret: secret, redirect_uris: [redirect], grant_types: ['authorization_code'], response_types: ['code'] }],
  claims: { openid: ['sub'], profile: ['preferred_username'], groups: ['groups'] },
  scopes: ['openid', 'profile', 'groups'],
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  features: { devInteractions: { enabled: true }, rpInitiatedLogout: { enabled: true } },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, preferred_username: id, groups: ['quants'] }) }),
});
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
