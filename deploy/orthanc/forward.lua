-- Forwards every CR and DX image that Orthanc stores to cxr-triage, as soon as it is stored.
--
-- For an Orthanc of your own: put this file into "LuaScripts", and the listener into "DicomModalities" under this name:
--   "DicomModalities": { "cxr-triage": ["CXRTRIAGE", "host of the listener", 11112] }
--
-- Heatmaps come back as Secondary Captures (modality OT), so nothing goes round in circles; cxr-triage recognises its own
-- objects anyway. A transfer that failed, because cxr-triage was being restarted or the network was away, is tried again
-- whenever another image is stored, for a day.

PEER = 'cxr-triage'
PEER_AET = 'CXRTRIAGE'

function IsRadiograph(tags)
  return tags['Modality'] == 'CR' or tags['Modality'] == 'DX'
end

-- A job in Orthanc's own queue: whoever sent the image never waits for us.
function Forward(instanceId)
  local job = {}
  job['Resources'] = { instanceId }
  job['Asynchronous'] = true
  RestApiPost('/modalities/' .. PEER .. '/store', DumpJson(job, true))
end

function RetryForwarding()
  local yesterday = os.date('!%Y%m%dT%H%M%S', os.time() - 86400)
  for _, job in pairs(ParseJson(RestApiGet('/jobs?expand'))) do
    if job['Type'] == 'DicomModalityStore' and job['State'] == 'Failure'
       and job['Content']['RemoteAet'] == PEER_AET and job['CreationTime'] > yesterday then
      RestApiPost('/jobs/' .. job['ID'] .. '/resubmit', '')
    end
  end
end

function OnStoredInstance(instanceId, tags, metadata, origin)
  if IsRadiograph(tags) then
    RetryForwarding()
    Forward(instanceId)
  end
end
