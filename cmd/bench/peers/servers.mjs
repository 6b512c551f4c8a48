// The same job in Express, on 127.0.0.1: `node servers.mjs WHICH CONFIG`, where CONFIG
// is JSON with issuer, jwks, audience, region, role and sts. It prints its address, and
// answers each line of its standard input with how it stands, as a child of the bench
// does; it ends with its standard input.
//
//   article  credentials by one call to STS for each request; the token is STS's to check
//   cache    the token checked by Auth0's own middleware, credentials kept in a Map
import { createInterface } from "node:readline";
import { fromWebToken } from "@aws-sdk/credential-providers";
import express from "express";
import { auth } from "express-oauth2-jwt-bearer";

const [which, config] = [process.argv[2], JSON.parse(process.argv[3])];

function assume(token, session) {
  return fromWebToken({
    roleArn: config.role,
    roleSessionName: session,
    webIdentityToken: token,
    durationSeconds: 3600,
    policy: JSON.stringify({
      Version: "2012-10-17",
      Statement: [{ Effect: "Allow", Action: ["s3:GetObject", "s3:PutObject"], Resource: `arn:aws:s3:::acme-uploads/${session}/*` }],
    }),
    clientConfig: { region: config.region, endpoint: config.sts },
  })();
}

const bearer = (req) => req.headers.authorization.slice("Bearer ".length);

const routes = {
  article: [
    async (req, res) => {
      res.json(await assume(bearer(req), "uploads"));
    },
  ],
  cache: [
    auth({ issuer: config.issuer, jwksUri: config.jwks, audience: config.audience, tokenSigningAlg: "RS256" }),
    async (req, res) => {
      const subject = req.auth.payload.sub;
      let held = kept.get(subject);
      if (!held || held.expiration - Date.now() < 20 * 60_000) {
        held = await assume(bearer(req), subject.replace("|", "-"));
        kept.set(subject, held);
      }
      res.json(held);
    },
  ],
};

const kept = new Map(); // :: subject → credentials
const app = express();
app.get("/v1/credentials", ...routes[which]);
const server = app.listen(0, "127.0.0.1", () => console.log(`127.0.0.1:${server.address().port}`));

createInterface({ input: process.stdin })
  .on("line", () => {
    const { user, system } = process.cpuUsage(); // microseconds, all threads
    console.log(JSON.stringify({ CPU: (user + system) * 1000, RSS: process.memoryUsage.rss() }));
  })
  .on("close", () => process.exit(0));
